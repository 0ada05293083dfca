OPS_F64=LAYER_F64=NETWORK_F64=LOSS_F64=UPDATE_F64=1e-10
OPS_F32=LAYER_F32=NETWORK_F32=LOSS_F32=UPDATE_F32=1e-5
# Replays (largest absolute error after a few steps in float64). A bias in front of BatchNorm has a true gradient of zero;
# Adam divides its rounding noise by nearly itself, so such biases, and with them running means and drawn images, differ by
# up to 1e-10 a step between any two programs. Everything else agrees to 1e-11.
REPLAY = 1e-8
