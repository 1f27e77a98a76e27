"""The kernel, typed: one function per system call or interface file; no policy, no logging, no retries."""
