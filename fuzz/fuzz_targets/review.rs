//! Any body of a review.

#![no_main]

fuzz::target!(vpa_fuzz::review);
