"""ONNX files and what ONNX Runtime computes from them: `python onnx_files.py`.

Writes `onnx/operators.safetensors` (a small model for each operator and variant) and `onnx/networks.tar.gz` (networks that PyTorch
exported, without their weights, which both sides generate from the names of the constants).
"""

import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save
from seeded import picture, uniform

warnings.filterwarnings("ignore")
OUT = Path(__file__).parent / "onnx"
RNG = np.random.default_rng(11)
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
MADE_WITH = {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__}


# ---------------------------------------------------------------- operators


def values(*dims, low=-1.0, high=1.0):
    return RNG.uniform(low, high, dims).astype(np.float32)


def model(nodes, constants, dims, out_rank=4, opset=17, elem=FLOAT):
    """A model with the input `x` and the output `y`; nodes are (operator, inputs, outputs, attributes)."""
    nodes = [helper.make_node(op, i.split(), o.split(), **a) for op, i, o, a in nodes]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", elem, dims)],
        [helper.make_tensor_value_info("y", FLOAT, [None] * out_rank)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset > 8 else 4)
    onnx.checker.check_model(made)
    return made


def ints(*v):
    return np.array(v, np.int64)


def operators():
    """Names, models and shapes of their inputs. All end in a map of scores [1, c, h, w]."""
    x = (1, 6, 9, 13)
    k = values(5, 6, 3, 3)

    def one(op, attributes=None, constants=None, inputs="x", opset=17, dims=x):
        return model([(op, inputs, "y", attributes or {})], constants or {}, dims, opset=opset), dims

    yield "relu", *one("Relu")
    yield "leaky_relu", *one("LeakyRelu", {"alpha": 0.1})
    yield "neg", *one("Neg")
    yield "hard_swish", *one("HardSwish")
    yield "hard_sigmoid", *one("HardSigmoid")
    yield "hard_sigmoid_sixth", *one("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5})
    yield "clip_six", *one("Clip", constants={"a": np.float32(0), "b": np.float32(6)}, inputs="x a b")
    yield "clip_range", *one("Clip", constants={"a": np.float32(-0.25), "b": np.float32(0.5)}, inputs="x a b")
    yield "clip_lower", *one("Clip", constants={"a": np.float32(0)}, inputs="x a")
    yield "clip_attributes", *one("Clip", {"min": 0.0, "max": 0.3}, opset=10)
    yield "add_scalar", *one("Add", constants={"c": np.float32(0.3)}, inputs="x c")
    yield "add_channels", *one("Add", constants={"c": values(6, 1, 1)}, inputs="c x")
    yield "sub_from", *one("Sub", constants={"c": values(1, 6, 1, 1)}, inputs="c x")
    yield "sub", *one("Sub", constants={"c": values(1, 6, 1, 1)}, inputs="x c")
    yield "div", *one("Div", constants={"c": np.float32(0.7)}, inputs="x c")
    yield "concat", model([("Relu", "x", "r", {}), ("Concat", "x r x", "y", {"axis": -3})], {}, x), x
    yield "slice_channels", *one("Slice", constants={"s": ints(1), "e": ints(-1), "a": ints(1)}, inputs="x s e a")
    yield "split", model([("Split", "x n", "a b", {"axis": 1}), ("Concat", "b a", "y", {"axis": 1})], {"n": ints(2, 4)}, x), x
    yield "split_13", model([("Split", "x", "a b c", {"axis": 1}), ("Concat", "c a b", "y", {"axis": 1})], {}, x, opset=13), x
    yield "conv", *one("Conv", {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1]}, {"k": k, "b": values(5)}, "x k b")
    yield "conv_stride_dilation", *one("Conv", {"strides": [2, 1], "dilations": [1, 3], "pads": [1, 3, 1, 3]}, {"k": k}, "x k")
    yield "conv_groups", *one("Conv", {"group": 3, "pads": [1] * 4}, {"k": values(9, 2, 3, 3)}, "x k")
    yield "conv_depthwise", *one("Conv", {"group": 6, "pads": [1] * 4}, {"k": values(6, 1, 3, 3)}, "x k")
    yield "conv_same_upper", *one("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"k": values(5, 6, 4, 3)}, "x k")
    yield "conv_same_lower", *one("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"k": values(5, 6, 4, 3)}, "x k")
    yield "conv_valid", *one("Conv", {"auto_pad": "VALID"}, {"k": k}, "x k")
    yield (
        "pad_conv",
        model([("Pad", "x p", "q", {}), ("Conv", "q k", "y", {"pads": [0, 1, 0, 0]})], {"p": ints(0, 0, 1, 0, 0, 0, 2, 1), "k": k}, x),
        x,
    )
    yield "pad_attributes", model([("Pad", "x", "q", {"pads": [0, 0, 1, 1, 0, 0, 1, 1]}), ("Conv", "q k", "y", {})], {"k": k}, x, opset=10), x
    norm = {"g": values(6), "b": values(6), "m": values(6), "v": values(6, low=0.5, high=2)}
    yield "batch_norm", *one("BatchNormalization", {"epsilon": 1e-3}, norm, "x g b m v")
    window = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}
    yield "max_pool", *one("MaxPool", window)
    yield "max_pool_ceil", *one("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})
    yield "max_pool_dilated", *one("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3]})
    yield "average_pool", *one("AveragePool", window)
    yield "average_pool_padded", *one("AveragePool", {**window, "count_include_pad": 1})
    yield "average_pool_same", *one("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"})

    def gated(pool, **attributes):
        """A factor for each channel from its mean, as in squeeze and excite."""
        return model([*pool, ("Sigmoid", "m", "s", {}), ("Mul", "x s", "y", {})], attributes, x, opset=17), x

    yield "global_average_pool", *gated([("GlobalAveragePool", "x", "m", {})])
    yield "reduce_mean", *gated([("ReduceMean", "x", "m", {"axes": [2, 3]})])
    yield (
        "reduce_mean_gemm",
        *gated(
            [
                ("ReduceMean", "x", "p", {"axes": [-1, -2], "keepdims": 0}),
                ("Gemm", "p w b", "q", {"transB": 1}),
                ("Reshape", "q n", "m", {}),
            ],
            w=values(6, 6),
            b=values(6),
            n=ints(0, -1, 1, 1),
        ),
    )
    yield (
        "flatten_matmul",
        *gated(
            [("GlobalAveragePool", "x", "p", {}), ("Flatten", "p", "f", {}), ("MatMul", "f w", "q", {}), ("Unsqueeze", "q a", "m", {})],
            w=values(6, 6),
            a=ints(2, 3),
        ),
    )
    small = {"kernel_shape": [1, 1], "strides": [3, 3]}
    for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        nodes = [("MaxPool", "x", "p", small), ("Resize", "p n n s", "r", {"mode": "linear", "coordinate_transformation_mode": mode}), ("Relu", "r", "y", {})]
        nodes[1] = ("Resize", "p e e s", "r", nodes[1][3])
        yield f"resize_{mode}", model(nodes, {"e": np.array([], np.float32), "s": ints(1, 6, 11, 17)}, x), x
    nodes = [("Resize", "x e f", "r", {"mode": "linear"}), ("Relu", "r", "y", {})]
    yield "resize_scales", model(nodes, {"e": np.array([], np.float32), "f": np.array([1, 1, 2, 3], np.float32)}, x), x
    nodes = [("Resize", "x e e s", "r", {"mode": "linear", "axes": [3, 2]}), ("Relu", "r", "y", {})]
    yield "resize_axes", model(nodes, {"e": np.array([], np.float32), "s": ints(20, 5)}, x, opset=18), x
    nodes = [("Resize", "x f", "r", {"mode": "linear"}), ("Relu", "r", "y", {})]
    yield "resize_10", model(nodes, {"f": np.array([1, 1, 2, 2], np.float32)}, x, opset=10), x
    nodes = [("Upsample", "x f", "r", {"mode": "linear"}), ("Relu", "r", "y", {})]
    yield "upsample_9", model(nodes, {"f": np.array([1, 1, 2, 3], np.float32)}, x, opset=9), x
    nodes = [("GlobalAveragePool", "x", "p", {}), ("Resize", "p e e s", "r", {"mode": "nearest"}), ("Add", "x r", "y", {})]
    yield "resize_one_pixel", model(nodes, {"e": np.array([], np.float32), "s": ints(1, 6, 9, 13)}, x), x
    # The sizes are computed from those of the image, as PyTorch exports them.
    nodes = [
        ("MaxPool", "x", "p", small),
        ("Shape", "x", "n", {}),
        ("Gather", "n two", "h", {"axis": 0}),
        ("Slice", "n three four", "w", {}),
        ("Unsqueeze", "h zero", "h1", {}),
        ("Cast", "h1", "hf", {"to": FLOAT}),
        ("Mul", "hf half", "hm", {}),
        ("Floor", "hm", "hd", {}),
        ("Cast", "hd", "hi", {"to": INT64}),
        ("Concat", "nc hi w", "s", {"axis": 0}),
        ("Resize", "p e e s", "r", {"mode": "linear"}),
        ("Relu", "r", "y", {}),
    ]
    constants = {"two": np.int64(2), "three": ints(3), "four": ints(4), "zero": ints(0), "half": np.float32(0.5), "nc": ints(1, 6)}
    yield "resize_computed", model(nodes, {**constants, "e": np.array([], np.float32)}, x), x
    # TensorFlow's order of axes around and inside.
    nhwc = (1, 9, 13, 3)
    nodes = [
        ("Transpose", "x", "a", {"perm": [0, 3, 1, 2]}),
        ("Conv", "a k", "b", {"pads": [1] * 4}),
        ("Transpose", "b", "c", {"perm": [0, 2, 3, 1]}),
        ("Add", "c d", "e", {}),
        ("Relu", "e", "f", {}),
        ("Transpose", "f", "y", {"perm": [0, 3, 1, 2]}),
    ]
    yield "nhwc", model(nodes, {"k": values(5, 3, 3, 3), "d": values(5)}, nhwc), nhwc
    yield "softmax_inside", model([("Softmax", "x", "s", {"axis": 1}), ("Mul", "x s", "y", {})], {}, x), x


# ---------------------------------------------------------------- networks


class Wrapped(torch.nn.Module):
    """A network with something in front of it or behind it."""

    def __init__(self, network, before=None, after=None):
        super().__init__()
        self.network, self.before, self.after = network, before or (lambda x: x), after or (lambda y: y)

    def forward(self, x):
        return self.after(self.network(self.before(x)))


def normalized(x):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (x / 255 - mean) / std


def networks():
    """Names, networks, and options of the export."""
    import segmentation_models_pytorch as smp
    from torchvision.models import segmentation as tv

    def plus(**options):
        return smp.DeepLabV3Plus(**{"encoder_name": "mobilenet_v2", "encoder_weights": None, "classes": 3, **options})

    nothing = {"weights": None, "weights_backbone": None, "num_classes": 3}
    yield "smp_plus_17", plus(), 17
    yield "smp_plus_11", plus(), 11
    yield "smp_plus_dynamo", plus(), 18
    yield "smp_plus_softmax", Wrapped(plus(), after=lambda y: y.softmax(1)), 17
    yield "smp_plus_labels", Wrapped(plus(), after=lambda y: y.argmax(1)), 17
    yield "smp_plus_bytes", Wrapped(plus(), before=normalized), 17
    yield "smp_plus_sigmoid", plus(classes=1, activation="sigmoid"), 17
    yield "smp_v3_os8", smp.DeepLabV3("mobilenet_v2", encoder_weights=None, classes=3, encoder_output_stride=8), 17
    yield "torchvision_mobilenet", tv.deeplabv3_mobilenet_v3_large(**nothing, aux_loss=True), 17
    for name, opset in (("torchvision_lraspp", 17), ("torchvision_lraspp_9_fixed", 9)):
        yield name, Wrapped(tv.lraspp_mobilenet_v3_large(**nothing), after=lambda y: y["out"]), opset


def export(name, network, opset):
    """The model of a network as PyTorch exports it."""
    file = io.BytesIO()
    network.eval()
    x = torch.zeros(1, 3, 96, 128)
    outputs = ["out", "aux"] if name == "torchvision_mobilenet" else ["out"]
    if name.endswith("dynamo"):
        dim = torch.export.Dim
        shapes = ({0: dim("batch"), 2: dim("height", min=64), 3: dim("width", min=64)},)
        torch.onnx.export(network, (x,), file, dynamo=True, opset_version=opset, dynamic_shapes=shapes, output_names=outputs)
    else:
        axes = None if name.endswith("fixed") else {"input": {0: "batch", 2: "height", 3: "width"}}
        torch.onnx.export(network, (x,), file, dynamo=False, opset_version=opset, dynamic_axes=axes, input_names=["input"], output_names=outputs)
    return onnx.load_from_string(file.getvalue())


# Constants of fewer elements stay in the file.
LARGE = 16


def seed_weights(made):
    """Replaces large constants by values from their names. Returns the model with them, and one that names a file with them."""
    bare, offset = onnx.ModelProto(), 0
    bare.CopyFrom(made)
    for full, tensor in zip(made.graph.initializer, bare.graph.initializer):
        count = int(np.prod(full.dims))
        if count <= LARGE or full.data_type != FLOAT:
            continue
        bound = np.float32(np.sqrt(np.float64(6) / np.float64(np.prod(full.dims[1:])))) if len(full.dims) > 1 else np.float32(0.125)
        filled = (np.float32(2) * uniform(full.name, count) - np.float32(1)) * bound
        full.CopyFrom(numpy_helper.from_array(filled.reshape(list(full.dims)), full.name))
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", 4 * count)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        offset += 4 * count
    for node in bare.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    bare.graph.ClearField("value_info")
    return made, bare


def run(made, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(made.SerializeToString(), options)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def main():
    OUT.mkdir(exist_ok=True)
    tensors = {}
    for name, made, dims in operators():
        x = values(*dims, low=-2, high=2)
        tensors[f"{name}.model"] = np.frombuffer(made.SerializeToString(), np.uint8)
        tensors[f"{name}.input"], tensors[f"{name}.output"] = x, run(made, x)
    (OUT / "operators.safetensors").write_bytes(save(tensors, MADE_WITH))

    files = {}
    for name, network, opset in networks():
        torch.manual_seed(1)
        made, bare = seed_weights(export(name, network, opset))
        x = picture((1, 3, 96, 128)).numpy()
        y = run(made, x * 127 if name.endswith("bytes") else x).astype(np.float32)
        listed = [f"{t.name} {' '.join(map(str, t.dims))}" for t in bare.graph.initializer if t.data_location == TensorProto.EXTERNAL]
        files[f"{name}.onnx"] = bare.SerializeToString()
        files[f"{name}.txt"] = "\n".join(listed).encode()
        # Every third row and column.
        files[f"{name}.safetensors"] = save({"output": np.ascontiguousarray(y[..., ::3, ::3])}, MADE_WITH)
        print(name, y.shape, y.std(), len(files[f"{name}.onnx"]))
    with tarfile.open(OUT / "networks.tar.gz", "w:gz", compresslevel=9) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


main()
