//! vpa-recommender
