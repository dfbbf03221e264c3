//! Hook scripts of this node: which there are, whether they are trusted, and running them.

pub mod acl;
pub mod run;
pub mod scripts;
pub mod startable;
pub mod trust;
