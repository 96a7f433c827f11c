"""The work of a batch on engines that spread it over many machines. Each needs an extra of its name."""
