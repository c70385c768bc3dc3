//! What is to be done to the system: ordered steps as data.
