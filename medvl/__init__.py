"""Medical vision-language models: encoders, losses, metrics, input and output, and the command line."""
