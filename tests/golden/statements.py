"""Networks whose files cannot state how they were built, with the config files that their libraries write beside them.

`python statements.py [part of a case's name ...]` writes `statements/CASE.safetensors`. On maps of 256 and more, since on small ones
wrong rates reach into the padding alone.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation, MobileNetV2ImageProcessor

import golden
import seeded
from golden import ModuleNet

DIRECTORY = Path(__file__).parent / "statements"
SAMPLES = 512
SQUARE, WIDE = (256, 256), (256, 320)


def texts(save):
    """The config files that `save(directory)` writes."""
    with tempfile.TemporaryDirectory() as directory:
        save(directory)
        names = ("config.json", "preprocessor_config.json")
        return {name: (Path(directory) / name).read_text() for name in names if (Path(directory) / name).is_file()}


def smp_case(name, arch, encoder, size=SQUARE, classes=4, refused="", contrast=False, **options):
    """A network of SMP. `contrast`: without its config.json the result must be another one."""
    plus = arch == "DeepLabV3Plus"

    def build():
        module = getattr(smp, arch)(encoder, encoder_weights=None, classes=classes, **options)
        # The logits, whatever is made of them.
        module.segmentation_head[2] = torch.nn.Identity()
        return module, lambda directory: module.save_pretrained(directory)

    def forward(module, x):
        captured = []
        hook = module.segmentation_head[0].register_forward_hook(lambda _m, _i, out: captured.append(out))
        full = module(x)
        hook.remove()
        if full.shape[2:] != x.shape[2:]:
            full = F.interpolate(captured[0], size=x.shape[2:], mode="bilinear", align_corners=True)
        return captured[0], full

    config = {
        "dialect": "smp",
        "head": "v3+" if plus else "v3",
        "backbone": encoder.removeprefix("tu-").replace("blur", "").replace("aa", ""),
        "classes": classes,
        "output_stride": options.get("encoder_output_stride", 16 if plus else 8),
        "rates": options.get("decoder_atrous_rates", (12, 24, 36)),
        "aspp_separable": options.get("decoder_aspp_separable", plus),
        "refused": refused,
        "contrast": contrast,
    }
    shape = (1, options.get("in_channels", 3), *size)
    return f"smp_{'v3plus' if plus else 'v3'}_{encoder}_{name}", build, forward, ("segmentation_head.0",), shape, config


def hf_case(name, size=SQUARE, classes=4, refused="", contrast=False, processor=None, **options):
    """Hugging Face's MobileNetV2 with random weights."""

    def build():
        config = MobileNetV2Config(num_labels=classes, **options)
        module = MobileNetV2ForSemanticSegmentation(config)

        def save(directory):
            module.save_pretrained(directory)
            if processor:
                MobileNetV2ImageProcessor(**processor).save_pretrained(directory)

        return module, save

    def forward(module, x):
        logits = module(x).logits
        return logits, F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=True)

    config = {
        "dialect": "hf",
        "head": "mobile",
        "backbone": "mobilenet_v2",
        "width": options.get("depth_multiplier", 1.0),
        "classes": classes,
        "output_stride": options.get("output_stride", 32),
        "refused": refused,
        "contrast": contrast,
    }
    return f"hf_{name}", build, forward, ("segmentation_head.classifier.convolution",), (1, 3, *size), config


def timm_case(name, refused="", contrast=False, dialect="timm", backbone=None, **options):
    """A backbone of timm: the features before its pooling. Options are arguments of the network."""

    def build():
        module = timm.create_model(name, pretrained=False, **options)
        return module, lambda directory: timm.models.save_for_hf(module, directory, model_args=options or None)

    def forward(module, x):
        features = module.forward_features(x)
        return features, None

    config = {
        "dialect": dialect,
        "head": "none",
        "backbone": backbone or name,
        "output_stride": 32,
        "refused": refused,
        "contrast": contrast,
    }
    suffix = "".join(f"_{key}" for key in options)
    return f"timm_{name}{suffix}", build, forward, (), (1, 3, *SQUARE), config


V3, PLUS = "DeepLabV3", "DeepLabV3Plus"
NAMES = {0: "background", 1: "road", 2: "tree", 3: "car"}
BLUR, AVERAGE = "it blurs features before it strides", "it averages features where a ResNet strides"


def cases():
    """All cases."""
    yield smp_case("os8", PLUS, "mobilenet_v2", encoder_output_stride=8, contrast=True)
    yield smp_case("os16", PLUS, "mobilenet_v2", WIDE)
    yield smp_case("rates", PLUS, "mobilenet_v2", WIDE, decoder_atrous_rates=(6, 12, 18), contrast=True)
    yield smp_case("os8_rates_1ch", PLUS, "resnet18", encoder_output_stride=8, decoder_atrous_rates=(4, 8, 20), in_channels=1)
    yield smp_case("plain_4ch", PLUS, "resnet18", decoder_aspp_separable=False, in_channels=4, activation="softmax2d")
    yield smp_case("5ch_sigmoid", PLUS, "mobilenet_v2", in_channels=5, activation="sigmoid", encoder_output_stride=8)
    yield smp_case("binary", PLUS, "mobilenet_v2", classes=1, activation="sigmoid", decoder_atrous_rates=(3, 6, 9))
    yield smp_case("upsampling1", PLUS, "mobilenet_v2", upsampling=1)
    yield smp_case("upsampling8", PLUS, "mobilenet_v2", upsampling=8, refused="8/4 of the image's size")
    yield smp_case("tanh", PLUS, "mobilenet_v2", activation="tanh", refused="the activation `tanh` is not supported")
    yield smp_case("blur", PLUS, "tu-resnetblur50", refused=BLUR)
    yield smp_case("timm", PLUS, "tu-resnetaa50", refused=AVERAGE)
    yield smp_case("os8", V3, "resnet18")
    yield smp_case("os16", V3, "mobilenet_v2", encoder_output_stride=16, contrast=True)
    yield smp_case("separable_rates", V3, "resnet18", encoder_output_stride=16, decoder_aspp_separable=True, decoder_atrous_rates=(6, 12, 18))
    yield smp_case("upsampling8", V3, "mobilenet_v2", encoder_output_stride=16, upsampling=8, refused="8/16 of the image's size")
    yield hf_case("os8", output_stride=8, contrast=True, id2label=NAMES)
    yield hf_case("os16", WIDE, output_stride=16, processor={"size": {"height": 513, "width": 513}})
    yield hf_case("os32", contrast=True)
    yield hf_case("symmetric", output_stride=16, tf_padding=False, contrast=True)
    yield hf_case("eps", output_stride=16, layer_norm_eps=0.05, contrast=True, processor={"image_mean": [0.4, 0.5, 0.6], "do_center_crop": False})
    yield hf_case("relu", output_stride=16, hidden_act="relu", refused="the backbone's activation is `relu`")
    yield timm_case("mobilenetv3_large_100")
    yield timm_case("tf_mobilenetv3_large_100", backbone="mobilenetv3_large_100", contrast=True)
    yield timm_case("resnet50")
    yield timm_case("resnetblur50", backbone="resnet50", refused=BLUR)
    yield timm_case("resnetaa50", backbone="resnet50", refused=AVERAGE)
    yield timm_case("resnet50", act_layer="silu", refused="built with `act_layer` \"silu\"")


def write(name, build, forward, classifiers, shape, config):
    """Writes a case: samples of what came out, or, of a network that is refused, its names alone."""
    module, save = build()
    files = texts(save)
    net = ModuleNet(module, {}, classifiers)
    named = seeded.float_names(net.state)
    tensors, note = {}, "refused"
    if not config["refused"]:
        x = seeded.picture(shape)
        with torch.no_grad():
            logits, full = net.run(forward, x)
            exact = net.run_f64(forward, x)
        assert logits.isfinite().all()
        tensors = {f"parameter.{name}": value.numpy() for name, value in net.stored.items()}
        tensors["exponents"] = np.array([net.exponents[name] for name, _ in named], dtype=np.int8)
        for key, value in (("logits", logits), ("logits_full", full)):
            if value is not None:
                tensors[f"{key}.samples"] = golden.sample(value, SAMPLES)
                tensors[f"{key}.shape"] = np.array(value.shape, dtype=np.int32)
        error = (logits.double() - exact[0]).abs().max().item()
        note = f"std {logits.std():.2f} max {logits.abs().max():.1f} f32 error {error:.1e}"
    tensors.setdefault("exponents", np.zeros(len(named), dtype=np.int8))
    metadata = {
        "config": json.dumps(config),
        "files": json.dumps(files),
        "input_shape": json.dumps(list(shape)),
        "stages": "[]",
        "names_fnv": f"{seeded.names_fnv(named):016x}",
        "tensors": str(len(named)),
        "parameters": str(net.parameters()),
        "sample_step": str(golden.SAMPLE_STEP),
    }
    path = DIRECTORY / f"{name}.safetensors"
    golden.save(path, tensors, metadata)
    size = path.stat().st_size
    assert size < 16 * 1024, f"{path.name}: {size} bytes"
    print(f"{path.stem:48} {size:6} B  {note}", flush=True)


def main():
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    for case in cases():
        if not wanted or any(part in case[0] for part in wanted):
            write(*case)


if __name__ == "__main__":
    main()
