//! The task that owns the machines and drives their effects.
