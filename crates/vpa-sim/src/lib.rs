//! vpa-sim
