//! Black box
