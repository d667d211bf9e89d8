//! Every suite, in one binary: one link, one build of what they run.

mod architecture;
