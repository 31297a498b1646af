"""The language model: backbone and adapters, precision, prompts, batches, training loop."""
