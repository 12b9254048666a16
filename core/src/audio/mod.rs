//! Sound: sources and sinks, devices and files, the codec.
