#ifndef OPENSHELL_PROBE_H
#define OPENSHELL_PROBE_H

/*
 * `openshell-sandbox probe`: prints, as one JSON object, what this kernel and container allow. Every
 * mechanism is really tried, in a child of its own; a refusal is given with its errno. Returns 0.
 */
int probe_main(void);

#endif
