"""The multimodal language model: configuration, encoders, projectors, modeling, processing."""
