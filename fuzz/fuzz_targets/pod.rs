//! Any pod under any VPA and any limits.

#![no_main]

fuzz::target!(vpa_fuzz::pod);
