declare const __VERSION__: string | undefined;
declare const __REVISION__: string | undefined;

/** Version and source revision; the build replaces both names, a run from source has neither. */
export const VERSION: string =
  typeof __VERSION__ === 'string'
    ? `${__VERSION__}+${typeof __REVISION__ === 'string' ? __REVISION__ : 'unknown'}`
    : '0.0.0-source';
