"""Container networks: model, pure plan, and what carries it out."""
