/** Whether a tool's name is one that `mcp.strict_tool_names` allows: 1 to 128 letters, digits and `_.-`. */
export const isStrictToolName = (name: string): boolean => /^[A-Za-z0-9_.-]{1,128}$/.test(name);
