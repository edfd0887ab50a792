// Whether a network's numbers are numbers.
#pragma once

#include <string>

#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// Throws NumericError, which starts with `where` and names the parameter or buffer, if one of the network's numbers is
/// NaN or infinite. Reads all of them and waits for the device.
template <Real T>
void check_finite(Context& ctx, Layer<T>& network, const std::string& where);

/// The same for the gradients of the parameters, for a training loop that wants to know before it steps.
template <Real T>
void check_gradients(Context& ctx, Layer<T>& network, const std::string& where);

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/finite_impl.hpp>
#endif
