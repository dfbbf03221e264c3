//! Hook scripts of this node: which there are, whether they are trusted, and running them.

pub mod run;
pub mod scripts;
pub mod trust;
