//! vpa-runtime
