/* Which sources the library was compiled from: one from other sources, left behind in a checkout,
 * may want other arguments. */

#include <stdint.h>

uint32_t sources(void) { return SOURCES; }
