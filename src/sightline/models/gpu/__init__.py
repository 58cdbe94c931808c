"""What runs on GPUs only: kernels, and the choice among them. Nothing here is needed on a CPU."""
