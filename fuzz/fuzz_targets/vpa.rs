//! Any VPA, with its old form.

#![no_main]

fuzz::target!(vpa_fuzz::vpa);
