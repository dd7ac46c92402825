//! Which controller is this, who owns it, which pods does it select.
