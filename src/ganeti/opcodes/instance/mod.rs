//! Opcodes on instances. `table` is the place to begin; the files beside it hold what
//! its entries name.

mod create;
mod describe;
mod migrate;
mod modify;
mod nic;
mod nodes;
mod table;

pub(super) use table::OPCODES;
