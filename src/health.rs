//! Liveness, readiness and the health report.
