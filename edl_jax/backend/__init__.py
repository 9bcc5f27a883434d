"""What depends on the machine: compiler, memory, allocator, forms of layers for a CPU."""
