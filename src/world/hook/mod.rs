//! Hook scripts of this node: which there are, and running them.

pub mod run;
pub mod scripts;
