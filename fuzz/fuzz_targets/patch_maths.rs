//! Quantities, and the functions that patches are computed with.

#![no_main]

fuzz::target!(vpa_fuzz::maths);
