"""YAML specs of nets and solvers, validated. This room imports no other room but ``errors``."""
