//! A client against servers that answer well, badly, late or not at all.

mod asking;
mod connections;
mod reference;
mod serving;
mod sglang;
mod stand_in;
