"""Our own kernels for processors, in C, compiled when the package is installed (ADR 31)."""
