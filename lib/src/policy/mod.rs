//! What happens to a request once a frontend matched, besides being forwarded: rewrites of host and
//! path, redirects, basic authentication, and answers from the operator's templates.
//!
//! Pure: everything is computed from the frontend, the request and what the caller hands in. Which of
//! these applies, and in what order, is the session's affair. What is echoed from a request cannot leave
//! its place: rewritten hosts and paths are checked anew, locations and answers are escaped.
//!
//! Read [`rewrite::Rewriter`] and [`template::write_template`] first.

pub mod auth;
pub mod redirect;
pub mod rewrite;
pub mod template;

pub use rewrite::Rewriter;
