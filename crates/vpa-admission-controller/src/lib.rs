//! vpa-admission-controller
