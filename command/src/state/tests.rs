//! The rules of each verb, and the laws of the state.

mod laws;
mod rules;
mod tcp;
mod values;
