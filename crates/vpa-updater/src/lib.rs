//! vpa-updater
