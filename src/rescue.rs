//! The one table: what went wrong, and what the client reads.
