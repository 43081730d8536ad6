//! Every metric this server exports, described.
