"""Makes the golden values of every network: `python networks.py [part of a case's name ...]`."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import golden
import nets_backbones
import nets_jfzhang95
import nets_mmseg
import nets_smp
import nets_tf
import nets_tf_mobile
import nets_torchvision
import nets_vainf
from golden import FunctionNet

DIRECTORY = Path(__file__).parent / "networks"
ODD, EVEN, TALL, SMALL = (65, 65), (64, 96), (97, 61), (80, 48)
# The outer taps of a rate of 36 read the image only on maps of more than 36 pixels.
LARGE, WIDE = (256, 320), (296, 304)


def smp_cases():
    """SMP: sizes divisible by the output stride through the library, others through the same modules."""
    for arch, encoder, stride, size, options in (
        ("DeepLabV3Plus", "mobilenet_v2", 16, EVEN, {}),
        ("DeepLabV3Plus", "mobilenet_v2", 16, ODD, {}),
        ("DeepLabV3Plus", "mobilenet_v2", 8, SMALL, {}),
        ("DeepLabV3Plus", "mobilenet_v2", 8, TALL, {"decoder_atrous_rates": (6, 12, 18)}),
        ("DeepLabV3Plus", "resnet50", 16, EVEN, {"decoder_atrous_rates": (6, 12, 18)}),
        ("DeepLabV3Plus", "resnet50", 16, TALL, {}),
        ("DeepLabV3Plus", "resnet50", 8, EVEN, {}),
        ("DeepLabV3Plus", "resnet50", 8, ODD, {}),
        ("DeepLabV3Plus", "resnet18", 16, SMALL, {"batch": 2}),
        ("DeepLabV3Plus", "resnet34", 8, EVEN, {"decoder_aspp_separable": False}),
        ("DeepLabV3Plus", "resnet18", 16, EVEN, {"in_channels": 4}),
        ("DeepLabV3Plus", "mobilenet_v2", 16, ODD, {"classes": 1}),
        ("DeepLabV3", "mobilenet_v2", 8, EVEN, {}),
        ("DeepLabV3", "mobilenet_v2", 16, ODD, {"classes": 21}),
        ("DeepLabV3", "resnet50", 8, SMALL, {}),
        ("DeepLabV3", "resnet50", 16, TALL, {"decoder_aspp_separable": True}),
        ("DeepLabV3Plus", "resnext50_32x4d", 16, LARGE, {}),
        ("DeepLabV3Plus", "se_resnet50", 16, LARGE, {}),
        ("DeepLabV3", "se_resnet50", 8, ODD, {}),
        ("DeepLabV3Plus", "se_resnext50_32x4d", 16, EVEN, {}),
        ("DeepLabV3Plus", "tu-resnet18", 16, LARGE, {}),
        ("DeepLabV3", "tu-resnet50", 8, LARGE, {}),
        ("DeepLabV3Plus", "tu-wide_resnet50_2", 16, EVEN, {}),
        ("DeepLabV3Plus", "tu-resnet50c", 16, EVEN, {}),
        ("DeepLabV3Plus", "tu-seresnet50", 16, EVEN, {}),
        ("DeepLabV3Plus", "tu-mobilenetv3_large_100", 16, LARGE, {}),
        ("DeepLabV3", "tu-mobilenetv3_large_100", 8, EVEN, {}),
    ):
        options = dict(options)
        batch, classes = options.pop("batch", 1), options.pop("classes", 7)
        plus = arch == "DeepLabV3Plus"
        config = {
            "dialect": "smp",
            "head": "v3+" if plus else "v3",
            "backbone": encoder,
            "output_stride": stride,
            "classes": classes,
            "rates": options.get("decoder_atrous_rates", (12, 24, 36)),
            "aspp_separable": options.get("decoder_aspp_separable", plus),
            "in_channels": options.get("in_channels", 3),
            "library_takes_this_size": size[0] % stride == 0 and size[1] % stride == 0,
        }
        forward = nets_smp.forward if config["library_takes_this_size"] else nets_smp.forward_any_size
        yield (
            f"smp_{'binary_' if classes == 1 else ''}{'v3plus' if plus else 'v3'}_{encoder}_os{stride}",
            lambda a=(arch, encoder, classes), o=options, s=stride: nets_smp.build(*a, encoder_output_stride=s, **o),
            forward,
            (batch, config["in_channels"], *size),
            config,
        )


def torchvision_cases():
    """torchvision: ResNet at output stride 8, MobileNetV3 at 16, always with rates 12, 24, 36."""
    for backbone, stride, size, batch, classes in (
        ("resnet50", 8, ODD, 1, 7),
        ("resnet50", 8, EVEN, 2, 7),
        ("resnet50", 8, SMALL, 1, 21),
        ("resnet101", 8, TALL, 1, 7),
        ("resnet50", 8, (5, 3), 1, 7),
        ("mobilenet_v3_large", 16, ODD, 1, 7),
        ("mobilenet_v3_large", 16, EVEN, 1, 21),
        ("mobilenet_v3_large", 16, TALL, 2, 7),
    ):
        config = {
            "dialect": "torchvision",
            "head": "v3",
            "backbone": backbone,
            "output_stride": stride,
            "classes": classes,
            "rates": (12, 24, 36),
            "aux": True,
        }
        yield (
            f"torchvision_v3_{backbone}_os{stride}",
            lambda b=backbone, c=classes: nets_torchvision.build(b, c),
            nets_torchvision.forward,
            (batch, 3, *size),
            config,
        )


def vainf_cases():
    """VainF: rates follow from the output stride."""
    for head, backbone, stride, size, batch, classes in (
        ("v3+", "mobilenet_v2", 16, ODD, 1, 7),
        ("v3+", "mobilenet_v2", 16, EVEN, 1, 7),
        ("v3+", "mobilenet_v2", 8, TALL, 1, 7),
        ("v3+", "mobilenet_v2", 8, SMALL, 2, 7),
        ("v3+", "resnet50", 16, EVEN, 1, 7),
        ("v3+", "resnet50", 16, TALL, 1, 7),
        ("v3+", "resnet50", 8, ODD, 1, 7),
        ("v3", "mobilenet_v2", 16, TALL, 1, 21),
        ("v3", "mobilenet_v2", 8, EVEN, 1, 7),
        ("v3", "resnet50", 16, ODD, 1, 21),
        ("v3", "resnet50", 8, EVEN, 1, 7),
    ):
        config = {
            "dialect": "vainf",
            "head": head,
            "backbone": backbone,
            "output_stride": stride,
            "classes": classes,
            "rates": (6, 12, 18) if stride == 16 else (12, 24, 36),
        }
        yield (
            f"vainf_{head.replace('+', 'plus')}_{backbone}_os{stride}",
            FunctionNet,
            nets_vainf.network(head, backbone, classes, stride),
            (batch, 3, *size),
            config,
        )


def mmseg_cases():
    """mmsegmentation: output stride 8, rates 12, 24, 36."""
    for head, depth, deep, size, options in (
        ("v3", 50, True, WIDE, {}),
        ("v3", 18, True, ODD, {"channels": 128}),
        ("v3+", 50, True, LARGE, {}),
        ("v3+", 18, True, WIDE, {"channels": 128, "low_channels": 12}),
        ("v3+", 50, False, EVEN, {}),
    ):
        backbone = f"resnet{depth}" + ("_v1c" if deep else "")
        config = {
            "dialect": "mmseg",
            "head": head,
            "backbone": backbone,
            "output_stride": 8,
            "classes": 7,
            "rates": nets_mmseg.RATES,
            "aux": True,
        } | options
        forward = nets_mmseg.network(head, depth, deep, 7, **options)
        name = f"mmseg_{head.replace('+', 'plus')}_{backbone}_os8"
        yield name, FunctionNet, forward, (1, 3, *size), config


def tf_net():
    """An empty network under TensorFlow's names."""
    return FunctionNet(tf=True)


def tf_cases():
    """TensorFlow's v3+ with separable ASPP and decoder."""
    for backbone, stride, size, batch, options in (
        ("xception_65", 16, ODD, 1, {}),
        ("xception_65", 16, EVEN, 1, {"multi_grid": (1, 2, 4)}),
        ("xception_65", 8, TALL, 1, {}),
        ("xception_71", 16, EVEN, 1, {}),
        ("xception_71", 16, TALL, 1, {}),
        ("xception_71", 8, ODD, 1, {}),
        ("xception_41", 16, SMALL, 2, {}),
        ("xception_41", 8, EVEN, 1, {"classes": 4}),
        ("xception_41", 16, (17, 2), 1, {}),
        ("resnet_v1_50", 16, ODD, 1, {}),
        ("resnet_v1_50", 16, EVEN, 1, {"multi_grid": (1, 2, 4)}),
        ("resnet_v1_50", 8, TALL, 1, {}),
        ("resnet_v1_101", 8, SMALL, 1, {}),
    ):
        options = dict(options)
        classes = options.pop("classes", 7)
        rates = (6, 12, 18) if stride == 16 else (12, 24, 36)
        config = {
            "dialect": "tf",
            "head": "v3+",
            "backbone": backbone + ("_beta" if "resnet" in backbone else ""),
            "output_stride": stride,
            "classes": classes,
            "rates": rates,
            "aspp_separable": True,
            "decoder_separable": True,
        } | options
        forward = nets_tf.network(backbone, classes, stride, rates, **options)
        yield f"tf_v3plus_{config['backbone']}_os{stride}", tf_net, forward, (batch, 3, *size), config


def tf_mobile_cases():
    """TensorFlow's v3 for phones."""
    for width, folded, stride, size, batch, classes in (
        (0.5, True, 16, ODD, 1, 21),
        (0.5, True, 8, EVEN, 1, 7),
        (1.0, True, 16, TALL, 1, 7),
        (1.0, False, 16, EVEN, 1, 7),
        (0.5, False, 8, TALL, 1, 2),
        (0.5, False, 16, SMALL, 2, 7),
        (0.5, True, 16, (1, 1), 1, 7),
    ):
        config = {
            "dialect": "tf",
            "head": "mobile",
            "backbone": "mobilenet_v2",
            "width": width,
            "batch_norm": "folded" if folded else "separate",
            "output_stride": stride,
            "classes": classes,
        }
        forward = nets_tf_mobile.network(classes, stride, width, folded)
        name = f"tf_mobile_mobilenet_v2_w{int(width * 100):03}_{config['batch_norm']}_os{stride}"
        yield name, tf_net, forward, (batch, 3, *size), config


def jfzhang95_cases():
    """jfzhang95: rates follow from the output stride."""
    for backbone, stride, size, batch in (
        ("xception", 16, ODD, 1),
        ("xception", 16, EVEN, 1),
        ("xception", 8, TALL, 1),
        ("resnet101", 16, EVEN, 1),
        ("resnet101", 8, ODD, 1),
        ("mobilenet_v2", 16, TALL, 1),
        ("mobilenet_v2", 8, EVEN, 1),
        ("mobilenet_v2", 16, SMALL, 2),
    ):
        config = {
            "dialect": "jfzhang95",
            "head": "v3+",
            "backbone": backbone,
            "output_stride": stride,
            "classes": 7,
            "rates": (6, 12, 18) if stride == 16 else (12, 24, 36),
        }
        forward = nets_jfzhang95.network(backbone, 7, stride)
        yield f"jfzhang95_v3plus_{backbone}_os{stride}", FunctionNet, forward, (batch, 3, *size), config


def hf_cases():
    """Hugging Face: TensorFlow's phone network under other names."""
    for width, stride, size, batch, classes in (
        (1.0, 16, ODD, 1, 21),
        (1.0, 8, EVEN, 1, 7),
        (0.5, 16, TALL, 1, 7),
        (0.35, 16, SMALL, 2, 7),
    ):
        config = {
            "dialect": "hf",
            "head": "mobile",
            "backbone": "mobilenet_v2",
            "width": width,
            "output_stride": stride,
            "classes": classes,
        }
        yield (
            f"hf_mobile_mobilenet_v2_w{int(width * 100):03}_os{stride}",
            lambda c=classes, s=stride, w=width: nets_backbones.hugging_face(c, s, w),
            nets_backbones.hugging_face_forward,
            (batch, 3, *size),
            config,
        )


def imagenet_cases():
    """Classification networks at output stride 32: features alone."""
    for library, backbone, size in (
        ("torchvision", "resnet50", ODD),
        ("torchvision", "mobilenet_v2", EVEN),
        ("torchvision", "mobilenet_v2", TALL),
        ("torchvision", "resnext50_32x4d", EVEN),
        ("torchvision", "wide_resnet50_2", ODD),
        ("timm", "resnet50", EVEN),
        ("timm", "seresnet50", ODD),
        ("timm", "resnet50c", EVEN),
        ("timm", "legacy_seresnet50", EVEN),
        ("timm", "xception65", TALL),
        ("timm", "xception41", EVEN),
    ):
        config = {"dialect": library, "head": "none", "backbone": backbone, "output_stride": 32}
        yield (
            f"{library}_imagenet_{backbone}",
            lambda l=library, b=backbone: nets_backbones.imagenet(l, b),
            nets_backbones.imagenet_forward,
            (1, 3, *size),
            config,
        )


def trained_cases():
    """The trained networks that `ATROUS_DATA` holds, on the seeded input."""
    for name, width, folded, classes, runs in (
        ("deeplabv3_mnv2_dm05_voc21", 0.5, True, 21, ((16, ODD), (8, EVEN))),
        ("deeplabv3_mnv2_voc21", 1.0, True, 21, ((16, EVEN), (8, TALL))),
        ("deeplabv3_mnv2_dm05_portrait2", 0.5, False, 2, ((8, TALL), (16, EVEN))),
        ("mobilenetv2_imagenet1k", None, None, None, ((32, ODD), (32, EVEN))),
    ):
        file = Path(os.environ.get("ATROUS_DATA", "")) / f"weights/{name}.safetensors"
        if not file.is_file():
            print(f"{name}: skipped, no data (set ATROUS_DATA)")
            continue
        for stride, size in runs:
            config = {"dialect": "tf", "head": "mobile", "backbone": "mobilenet_v2", "output_stride": stride, "weights": file.name}
            if width is None:
                config |= {"dialect": "torchvision", "head": "none"}
                build = lambda f=file: nets_backbones.imagenet("torchvision", "mobilenet_v2", load_file(f))
                forward = nets_backbones.imagenet_forward
            else:
                config |= {"width": width, "batch_norm": "folded" if folded else "separate", "classes": classes}
                build = lambda f=file: FunctionNet(tf=True, weights=load_file(f))
                forward = nets_tf_mobile.network(classes, stride, width, folded)
            yield f"trained_{name}_os{stride}", build, forward, (1, 3, *size), config


FAMILIES = (
    smp_cases,
    torchvision_cases,
    vainf_cases,
    mmseg_cases,
    tf_cases,
    tf_mobile_cases,
    jfzhang95_cases,
    hf_cases,
    imagenet_cases,
    trained_cases,
)


def main():
    torch.set_num_threads(int(os.environ.get("GOLDEN_THREADS", "1")))
    wanted = sys.argv[1:]
    for family in FAMILIES:
        for name, build, forward, shape, config in family():
            name += "_" + (f"n{shape[0]}x" if shape[0] > 1 else "") + f"{shape[2]}x{shape[3]}"
            if not wanted or any(part in name for part in wanted):
                golden.write(DIRECTORY / f"{name}.safetensors", build(), forward, shape, config)


if __name__ == "__main__":
    main()
