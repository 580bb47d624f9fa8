//! What crate `metrics` promises, through its public interface.
