//! Images in this process's memory.
