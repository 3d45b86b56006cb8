"""The sample that comes with the package: 5,000 MNIST digits. README.md says where they are from."""
