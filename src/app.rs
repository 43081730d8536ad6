//! Configuration to built parts.
