"""Arrays on a device, its workers and threads, and the strict double of CuPy."""
