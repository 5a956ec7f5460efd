"""Files written by TensorFlow itself: frozen graphs, checkpoints, TFLite. Writes tensorflow/*.

The networks are TensorFlow's DeepLab, written anew with plain operations under the names of its code. Kernels are small multiples of a
power of two, so that the archives are small; the statistics of batch norms are those of the input.

    python tensorflow_files.py                  the small files that are committed
    python tensorflow_files.py --large DIR      Xception-65 and ResNet-50 (beta) at full width, to compare by hand

Requires tensorflow (the files were made with 2.21.0) and safetensors.
"""

import argparse
import io
import os
import pathlib
import tarfile
import tempfile
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file
from tensorflow.python.tools import optimize_for_inference_lib

v1 = tf.compat.v1
v1.disable_eager_execution()
HERE = pathlib.Path(__file__).parent


def rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


class Net:
    """Layers with the names of slim. `atrous`: "dilations" or "batch" (SpaceToBatchND, as TensorFlow 1 wrote it)."""

    def __init__(self, atrous="dilations", statistics=None):
        """Without statistics the norms use those of their input, which are then in `measured`."""
        self.variables, self.atrous, self.statistics, self.measured = [], atrous, statistics, {}

    def variable(self, name, value):
        var = v1.get_variable(name, initializer=np.asarray(value, np.float32), use_resource=False)
        self.variables.append(var)
        return var

    def kernel(self, name, shape, fan_in, gain=1.0):
        steps = rng(name).integers(-7, 8, shape)
        scale = 2.0 ** np.round(np.log2(gain * np.sqrt(2.0 / fan_in) / 4.3))
        return self.variable(name, steps * scale)

    def convolve(self, x, kernel, k, stride, rate, depthwise, padding):
        def apply(x, padding, rate):
            if depthwise:
                # For the CPU this is between SpaceToBatchND and BatchToSpaceND too, with paddings that depend on the shape.
                return tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], padding, dilations=[rate, rate])
            return tf.raw_ops.Conv2D(input=x, filter=kernel, strides=[1, stride, stride, 1], padding=padding, dilations=[1, rate, rate, 1])

        if rate == 1 or k == 1 or self.atrous == "dilations":
            return apply(x, padding, rate if k > 1 else 1)
        # As `with_space_to_batch` of TensorFlow 1: the padding of SAME, then up to a multiple of the rate.
        pad, pads, crops = rate * (k - 1) // 2, [], []
        for size in x.shape[1:3].as_list():
            extra = -(size + 2 * pad) % rate
            pads.append([pad, pad + extra])
            crops.append([0, extra])
        y = tf.raw_ops.SpaceToBatchND(input=x, block_shape=[rate, rate], paddings=pads)
        return tf.raw_ops.BatchToSpaceND(input=apply(y, "VALID", 1), block_shape=[rate, rate], crops=crops)

    def conv(self, scope, x, out, k=1, stride=1, rate=1, relu="relu", eps=1.001e-5, depthwise=False, explicit=False):
        c = x.shape[3]
        if explicit and stride > 1:
            pad = rate * (k - 1)
            x = tf.pad(x, [[0, 0], [pad // 2, pad - pad // 2], [pad // 2, pad - pad // 2], [0, 0]])
        padding = "VALID" if explicit and stride > 1 else "SAME"
        if depthwise:
            kernel = self.kernel(scope + "/depthwise_weights", (k, k, c, 1), k * k)
        else:
            kernel = self.kernel(scope + "/weights", (k, k, c, out), k * k * c)
        y = self.convolve(x, kernel, k, stride, rate, depthwise, padding)
        n = c if depthwise else out
        signs = 1.0 + 0.25 * rng(scope + "/gamma").integers(-1, 2, n)
        shift = 0.25 * rng(scope + "/beta").integers(-2, 3, n)
        gamma = self.variable(scope + "/BatchNorm/gamma", signs)
        beta = self.variable(scope + "/BatchNorm/beta", shift)
        norm = lambda mean, var, training: tf.raw_ops.FusedBatchNormV3(
            x=y, scale=gamma, offset=beta, mean=mean, variance=var, epsilon=eps, is_training=training, name=scope + "/BatchNorm/FusedBatchNormV3"
        )
        if self.statistics is None:
            out = norm([], [], True)
            # A single pixel has no variance.
            self.measured[scope] = (out.batch_mean, out.batch_variance) if y.shape[1:3].num_elements() != 1 else (np.zeros(n), np.ones(n))
            y = out.y if y.shape[1:3].num_elements() != 1 else tf.nn.bias_add(y * gamma, beta)
        else:
            m, v = self.statistics[scope]
            # Few distinct values, which an archive compresses.
            grid = 2.0 ** np.floor(np.log2(np.sqrt(v.mean()))) / 8
            mean = self.variable(scope + "/BatchNorm/moving_mean", np.round(m / grid) * grid)
            var = self.variable(scope + "/BatchNorm/moving_variance", np.maximum(np.round(v / v.mean() * 4) / 4, 0.25) * v.mean().astype(np.float16))
            y = norm(mean, var, False).y
        return {"relu": tf.nn.relu, "relu6": tf.nn.relu6, None: tf.identity}[relu](y)

    def separable(self, scope, x, out, rate=1, relu="relu", eps=1.001e-5, stride=1, explicit=False):
        x = self.conv(scope + "_depthwise", x, None, 3, stride, rate, relu, eps, True, explicit)
        return self.conv(scope + "_pointwise", x, out, 1, relu=relu, eps=eps)

    def resize(self, x, size):
        return v1.image.resize_bilinear(x, size, align_corners=True)


def stride_plan(at, output_stride):
    dilation = 1

    def step(stride):
        nonlocal at, dilation
        if at < output_stride:
            at *= stride
            return stride, 1
        before = dilation
        dilation *= stride
        return 1, before

    return step


def mobilenet_v2(net, x, output_stride, channels):
    stem, groups = channels
    step = stride_plan(2, output_stride)
    x = net.conv("MobilenetV2/Conv", x, stem, 3, 2, relu="relu6", eps=1e-3)
    low, index = None, 0
    for repeats, stride, out in zip((1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1), groups):
        for i in range(repeats):
            scope = "MobilenetV2/expanded_conv" + (f"_{index}" if index else "")
            s, rate = step(stride if i == 0 else 1)
            y = net.conv(scope + "/expand", x, int(x.shape[3]) * 6, relu="relu6", eps=1e-3) if index else x
            y = net.conv(scope + "/depthwise", y, None, 3, s, rate, "relu6", 1e-3, True)
            low = y if index == 2 else low
            y = net.conv(scope + "/project", y, out, relu=None, eps=1e-3)
            x = y + x if s == 1 and int(x.shape[3]) == out else y
            index += 1
    return low, x


def xception_65(net, x, output_stride, grid):
    name = "xception_65"
    step = stride_plan(2, output_stride)
    x = net.conv(f"{name}/entry_flow/conv1_1", x, 32, 3, 2, eps=1e-3, explicit=True)
    x = net.conv(f"{name}/entry_flow/conv1_2", x, 64, 3, eps=1e-3)
    low = None

    def unit(scope, x, channels, skip, stride, rates=(1, 1, 1)):
        nonlocal low
        s, rate = step(stride)
        y = x
        for i, out in enumerate(channels):
            sub = f"{name}/{scope}/xception_module/separable_conv{i + 1}"
            y = y if skip is None else tf.nn.relu(y)
            relu = "relu" if skip is None else None
            y = net.separable(sub, y, out, rate * rates[i], relu, 1e-3, s if i == 2 else 1, True)
            if scope == "entry_flow/block2/unit_1" and i == 1:
                low = y
        if skip == "conv":
            y = y + net.conv(f"{name}/{scope}/xception_module/shortcut", x, channels[2], 1, s, relu=None, eps=1e-3)
        elif skip == "sum":
            y = y + x
        return y

    for i, c in enumerate((128, 256, 728)):
        x = unit(f"entry_flow/block{i + 1}/unit_1", x, (c, c, c), "conv", 2)
    for i in range(16):
        x = unit(f"middle_flow/block1/unit_{i + 1}", x, (728,) * 3, "sum", 1)
    x = unit("exit_flow/block1/unit_1", x, (728, 1024, 1024), "conv", 2)
    x = unit("exit_flow/block2/unit_1", x, (1536, 1536, 2048), None, 1, grid)
    return low, x


def resnet_v1_50_beta(net, x, output_stride, grid):
    name = "resnet_v1_50"
    step = stride_plan(4, output_stride)
    x = net.conv(f"{name}/conv1_1", x, 64, 3, 2, explicit=True)
    x = net.conv(f"{name}/conv1_2", x, 64, 3)
    x = net.conv(f"{name}/conv1_3", x, 128, 3)
    x = tf.nn.max_pool2d(x, 3, 2, "SAME")
    low = None
    for b, (count, planes) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512)), 1):
        for u in range(1, count + 1):
            scope = f"{name}/block{b}/unit_{u}/bottleneck_v1"
            s, rate = step(2 if u == count and b < 4 else 1)
            rate *= grid[u - 1] if b == 4 else 1
            if int(x.shape[3]) == planes * 4:
                skip = x if s == 1 else tf.nn.max_pool2d(x, 1, s, "VALID")
            else:
                skip = net.conv(f"{scope}/shortcut", x, planes * 4, 1, s, relu=None)
            y = net.conv(f"{scope}/conv1", x, planes)
            y = net.conv(f"{scope}/conv2", y, planes, 3, s, rate, explicit=True)
            y = net.conv(f"{scope}/conv3", y, planes * 4, relu=None)
            low = y if (b, u) == (1, 2) else low
            x = tf.nn.relu(skip + y)
    return low, x


def head(net, low, x, size, classes, rates, depth, low_depth, plus, dynamic=False):
    extent = lambda v: tf.shape(v)[1:3] if dynamic else v.shape[1:3].as_list()
    if dynamic:
        pooled = tf.reduce_mean(x, [1, 2], keepdims=True)
    else:
        pooled = tf.nn.avg_pool2d(x, extent(x), [1, 1], "VALID")
    pooled = net.conv("image_pooling", pooled, depth)
    branches = [net.resize(pooled, extent(x)), net.conv("aspp0", x, depth)]
    branches += [net.separable(f"aspp{i}", x, depth, rate) for i, rate in enumerate(rates, 1)]
    y = net.conv("concat_projection", tf.concat(branches, 3), depth)
    if plus:
        low = net.conv("decoder/feature_projection0", low, low_depth)
        # Both are resized to the size of the low-level features, as the original code does.
        parts = [net.resize(v, extent(low)) for v in (y, low)]
        y = net.separable("decoder/decoder_conv0", tf.concat(parts, 3), depth)
        y = net.separable("decoder/decoder_conv1", y, depth)
    kernel = net.kernel("logits/semantic/weights", (1, 1, depth, classes), depth)
    bias = net.variable("logits/semantic/biases", 0.25 * rng("logits").integers(-3, 4, classes))
    logits = tf.nn.bias_add(tf.nn.conv2d(y, kernel, 1, "SAME"), bias, name="logits/semantic/BiasAdd")
    return logits, tf.argmax(net.resize(logits, size), 3, name="SemanticPredictions")


def image(size):
    """Blocks of 8 x 8 pixels and noise, as bytes."""
    h, w = size
    blocks = rng("blocks").integers(0, 200, (1, -(-h // 8), -(-w // 8), 3)).repeat(8, 1).repeat(8, 2)[:, :h, :w]
    return (blocks + rng("noise").integers(0, 56, (1, h, w, 3))).astype(np.uint8)


def build(backbone, sample, output_stride, classes, rates, depth, low_depth, plus, atrous, dynamic=False):
    """Returns the net, the placeholder, the logits and the labels. Bytes are normalized in the graph."""
    raw, size = sample.dtype == np.float32, sample.shape[1:3]
    statistics = None
    for dynamic_shape in (False, dynamic):
        v1.reset_default_graph()
        net = Net(atrous, statistics)
        shape = [1, None, None, 3] if dynamic_shape else [1, *size, 3]
        x = v1.placeholder(tf.float32 if raw else tf.uint8, shape, "input" if raw else "ImageTensor")
        y = tf.cast(x, tf.float32)
        y = y if raw else (2.0 / 255.0) * y - 1.0
        low, features = backbone(net, y, output_stride)
        full = tf.shape(x)[1:3] if dynamic_shape else list(size)
        logits, labels = head(net, low, features, full, classes, rates, depth, low_depth, plus, dynamic_shape)
        if statistics is None:
            with v1.Session() as session:
                session.run(v1.global_variables_initializer())
                statistics = session.run({k: (tf.identity(m), tf.identity(v)) for k, (m, v) in net.measured.items()}, {x: sample})
                statistics = {k: (np.float64(m), np.float64(v)) for k, (m, v) in statistics.items()}
    return net, x, logits, labels


def frozen(session, names):
    # Deprecated, and what the published graphs were made with.
    return v1.graph_util.convert_variables_to_constants(session, session.graph_def, names)


def checkpoint(session, net, prefix, shards=1, averages=()):
    """Writes a checkpoint of version 2 with several data files, averages and momenta."""
    names, values = [], []
    for var in net.variables:
        value = session.run(var)
        name = var.op.name
        if name in averages:
            names.append(name + "/ExponentialMovingAverage")
            values.append(value)
            value = value + 1
        names.append(name)
        values.append(value.astype(np.float32))
        names.append(name + "/Momentum")
        values.append(np.zeros(value.shape, np.float32))
    names.append("global_step")
    values.append(np.int64(1234))
    order = np.argsort(names)
    parts = []
    with tf.Graph().as_default(), v1.Session() as writer:
        for shard in range(shards):
            chosen = order[shard::shards]
            part = f"{prefix}_part-{shard:05}-of-{shards:05}"
            inputs = [v1.placeholder(values[i].dtype, values[i].shape) for i in chosen]
            save = tf.raw_ops.SaveV2(
                prefix=part, tensor_names=[names[i] for i in chosen], shape_and_slices=[""] * len(chosen), tensors=inputs
            )
            writer.run(save, dict(zip(inputs, [values[i] for i in chosen])))
            parts.append(part)
        writer.run(tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=prefix, delete_old_dirs=False))
    for left in pathlib.Path(prefix).parent.glob("*_part-*"):
        left.unlink()


def archive(path, files):
    """A .tar.gz without times and owners, so that the same files give the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo("deeplab/" + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    path.write_bytes(packer.compress(out.getvalue()) + packer.flush())
    print(path.name, path.stat().st_size)


def lite(graph_def, x, logits, sample, mode):
    with tempfile.NamedTemporaryFile(suffix=".pb") as file:
        file.write(graph_def.SerializeToString())
        file.flush()
        converter = v1.lite.TFLiteConverter.from_frozen_graph(file.name, [x.op.name], [logits.op.name], {x.op.name: [1, *sample.shape[1:]]})
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "int8":
        converter.representative_dataset = lambda: iter([[sample.astype(np.float32)]])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if mode == "per_tensor":
        converter._experimental_disable_per_channel = True
    return converter.convert()


def as_float(data):
    """The file with its 8-bit constants dequantized and without quantized activations, so that the interpreter runs it in float32."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    kinds = {9: np.int8, 3: np.uint8, 2: np.int32}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    (graph,) = model.subgraphs
    for tensor in graph.tensors:
        q = tensor.quantization
        if tensor.type not in kinds or q is None or q.scale is None or len(q.scale) == 0:
            continue
        buffer = model.buffers[tensor.buffer]
        if buffer.data is not None and len(buffer.data):
            values = np.frombuffer(bytes(bytearray(buffer.data)), kinds[tensor.type]).reshape(tensor.shape)
            shape = [1] * values.ndim
            if len(q.scale) > 1:
                shape[q.quantizedDimension] = -1
            values = (values.astype(np.float64) - np.reshape(q.zeroPoint, shape)) * np.reshape(q.scale, shape)
            copy = type(buffer)()
            copy.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
            model.buffers.append(copy)
            tensor.buffer = len(model.buffers) - 1
        tensor.type, tensor.quantization = 0, None
    # QUANTIZE and DEQUANTIZE copy their input.
    copies = {op.outputs[0]: op.inputs[0] for op in graph.operators if codes[op.opcodeIndex] in (114, 6)}
    while any(source in copies for source in copies.values()):
        copies = {k: copies.get(v, v) for k, v in copies.items()}
    graph.operators = [op for op in graph.operators if codes[op.opcodeIndex] not in (114, 6)]
    for op in graph.operators:
        op.inputs = [copies.get(i, i) for i in op.inputs]
    graph.outputs = [copies.get(i, i) for i in graph.outputs]
    model.signatureDefs = []
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def run_lite(data, sample):
    interpreter = tf.lite.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def dequantized(data):
    """The first filters of the ASPP's projection, [out, h, w, in]."""
    interpreter = tf.lite.Interpreter(model_content=data, experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    found = [t for t in interpreter.get_tensor_details() if len(t["shape"]) == 4 and list(t["shape"]) == [32, 1, 1, 160]]
    (tensor,) = [t for t in found if t["dtype"] in (np.int8, np.float16)] or found
    values, q = interpreter.get_tensor(tensor["index"]), tensor["quantization_parameters"]
    print("  ", tensor["name"], tensor["dtype"].__name__, len(q["scales"]), "scales")
    if len(q["scales"]) == 0:
        return values[:4].astype(np.float32)
    shape = (-1, 1, 1, 1) if len(q["scales"]) > 1 else (1, 1, 1, 1)
    return ((values.astype(np.float32) - q["zero_points"].reshape(shape)) * q["scales"].reshape(shape))[:4].astype(np.float32)


SMALL = (8, (4, 4, 4, 4, 4, 4, 8))


def small(directory):
    """A MobileNetV2 of a few channels with the whole head: 33 x 41 pixels, output stride 8."""
    directory.mkdir(exist_ok=True)
    backbone = lambda net, x, stride: mobilenet_v2(net, x, stride, SMALL)
    expected = {}
    size = (33, 41)
    for name, options in {
        "graph": dict(size=size, atrous="batch", output_stride=8, rates=(2, 4, 6)),
        "dynamic": dict(size=(49, 49), atrous="dilations", output_stride=16, rates=(1, 2, 3), dynamic=True),
    }.items():
        sample = expected["image." + name] = image(options.pop("size"))
        net, x, logits, labels = build(backbone, sample, classes=3, depth=8, low_depth=4, plus=True, **options)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            expected[name] = session.run(logits, {x: sample})
            graph = frozen(session, [labels.op.name])
            files = {"frozen_inference_graph.pb": graph.SerializeToString(deterministic=True)}
            if name == "graph":
                with tempfile.TemporaryDirectory() as temporary:
                    checkpoint(session, net, f"{temporary}/model.ckpt", 2, {"aspp0/weights", "MobilenetV2/Conv/weights"})
                    saved = {path.name: path.read_bytes() for path in pathlib.Path(temporary).iterdir()}
                files |= saved
                # Folds the norms of all convolutions but those between SpaceToBatchND and BatchToSpaceND.
                folded = optimize_for_inference_lib.optimize_for_inference(graph, [x.op.name], [labels.op.name], tf.uint8.as_datatype_enum)
                archive(directory / "optimized.tar.gz", {"optimized.pb": folded.SerializeToString(deterministic=True)})
            archive(directory / f"{name}.tar.gz", files)
    # TFLite folds the norms. Its input is normalized.
    # Kernels below 1024 elements are not quantized by themselves.
    normalized = image(size).astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    net, x, logits, _ = build(backbone, normalized, 8, 3, (2, 4, 6), 32, 4, True, "dilations")
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        expected["lite"] = session.run(logits, {x: normalized})
        graph = frozen(session, [logits.op.name])
    for mode in ("float32", "float16", "per_channel", "per_tensor", "int8"):
        data = lite(graph, x, logits, normalized, mode)
        out = run_lite(data, normalized)
        print(mode, len(data), "difference to float32:", np.abs(out - expected["lite"]).max(), "of", expected["lite"].std())
        if mode in ("per_channel", "per_tensor", "int8"):
            out = run_lite(as_float(data), normalized)
            print("   with its kernels alone:", np.abs(out - expected["lite"]).max())
        if mode != "float32":
            expected["lite." + mode] = out
        if mode != "float32":
            expected["kernel." + mode] = dequantized(data)
        if mode != "float32":
            archive(directory / f"lite_{mode}.tar.gz", {"model.tflite": data})
    # The reader of the golden files expects metadata.
    expected = {name: np.ascontiguousarray(value) for name, value in expected.items()}
    save_file(expected, directory / "expected.safetensors", {"tensorflow": tf.__version__})


def large(directory):
    """Networks at full width as frozen graph, checkpoint, archive and TFLite, with TensorFlow's logits."""
    directory.mkdir(exist_ok=True)
    for name, backbone, size, stride, rates, grid, atrous in (
        ("resnet_v1_50", resnet_v1_50_beta, (129, 129), 16, (6, 12, 18), (1, 2, 4), "batch"),
        ("resnet_v1_50_even", resnet_v1_50_beta, (128, 160), 8, (6, 12, 18), (1, 1, 1), "dilations"),
        ("xception_65", xception_65, (129, 129), 16, (6, 12, 18), (1, 1, 1), "batch"),
        ("xception_65_os8", xception_65, (97, 129), 8, (12, 24, 36), (1, 2, 4), "dilations"),
    ):
        sample = image(size)
        net, x, logits, labels = build(lambda n, v, s: backbone(n, v, s, grid), sample, stride, 21, rates, 256, 48, True, atrous)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            out, classes = session.run([logits, labels], {x: sample})
            print(name, "std", out.std(), out.shape, np.unique(classes).size, "classes")
            graph = frozen(session, [labels.op.name])
            (directory / f"{name}.pb").write_bytes(graph.SerializeToString())
            save_file({"image": sample, "logits": out}, directory / f"{name}.safetensors")
            checkpoint(session, net, str(directory / f"{name}.ckpt"), 3, {"aspp0/weights"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", type=pathlib.Path)
    options = parser.parse_args()
    large(options.large) if options.large else small(HERE / "tensorflow")


if __name__ == "__main__":
    main()
