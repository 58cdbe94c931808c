/* TIMES_n(X): X(0) X(1) ... X(n - 1), written out. Compilers keep an array in registers only where
 * every index is a constant, and not every compiler unrolls its loops before it decides. */

#ifndef SIGHTLINE_REPEAT_H
#define SIGHTLINE_REPEAT_H

#define TIMES_1(X) X(0)
#define TIMES_2(X) TIMES_1(X) X(1)
#define TIMES_3(X) TIMES_2(X) X(2)
#define TIMES_4(X) TIMES_3(X) X(3)
#define TIMES_5(X) TIMES_4(X) X(4)
#define TIMES_6(X) TIMES_5(X) X(5)
#define TIMES_7(X) TIMES_6(X) X(6)
#define TIMES_8(X) TIMES_7(X) X(7)
#define TIMES_9(X) TIMES_8(X) X(8)
#define TIMES_10(X) TIMES_9(X) X(9)
#define TIMES_11(X) TIMES_10(X) X(10)
#define TIMES_12(X) TIMES_11(X) X(11)
#define TIMES_13(X) TIMES_12(X) X(12)
#define TIMES_14(X) TIMES_13(X) X(13)
#define TIMES_15(X) TIMES_14(X) X(14)
#define TIMES_16(X) TIMES_15(X) X(15)

#endif
