"""Which models prove which kind: every kind that a summary promises to take has some, and every model has a kind.

Each model here is traced in both engines and held to plain hooks, its totals and its state (``test_tracer.py``,
``test_isolation.py``, ``test_repeats.py``); each architecture in ``test_zoo.py``.
"""

from __future__ import annotations

from tests.models import CASES
from tests.zoo import ZOO

KINDS: dict[str, str] = {
    "plain nets": "Example mlp Residual TwoInputs Pooling Shapes OtherRanks Functional "
    "Outlets WithLoss ForwardOfChild PassThrough",
    "recursion, and nesting deeper than Python's": "Recursive nested_deep",
    "reuse, and shared modules under their true caller": "Reused SharedModule registered_twice KnowsParent",
    "modules made, copied or swapped during the forward": "MadeInForward CopiesALayer BuildsItself Swaps Registers",
    "failures that the forward catches": "CatchesAFailure",
    "containers without a forward": "Containers",
    "called by another method than forward, or by a call of its own": "OtherMethod Vae VaeForward OwnCall AnyArguments",
    "parameters on a container": "OwnParameters",
    "uncalled modules": "Uncalled Branches",
    "lazy modules": "lazy lazy_one_dim OwnLazy LazyReused",
    "attention, with the fast path": "Sdpa SelfAttention fast_path_attention fast_path_encoder PaddedEncoder "
    "full_transformer",
    "checkpointing, both ways": "checkpointed checkpointed_reentrant CheckpointedSequence",
    "autocast, no_grad and gradients inside forward": "Autocast NoGrad Inference Gradients GoesBackward "
    "LayerInBackward AsksForGrad",
    "recurrent nets and PackedSequence": "Recurrent Cells Packed TakesPacked PacksFixed",
    "nested and sparse tensors": "NestedStrided NestedJagged NestedEvenly SparseGraph",
    "dicts, dataclasses, graph data, lists, None": "TakesDict TakesDataclass TakesGraph GraphNet TakesList Nones "
    "FillsTheListsItIsGiven",
    "generators, chance and seeds": "Generators Variational Dropouts Chance Seeds MasksDrawnAtRandom",
    "ScriptModules": "script_inside scripted jit_traced",
    "compiled": "compiled compiled_in_place CompiledInside",
    "DataParallel and DDP": "data_parallel distributed",
    "GraphModules and exported programs": "graph_module graph_module_deep exported",
    "parametrizations, old weight and spectral norm": "weight_norm spectral_norm orthogonal SharedParametrization "
    "old_weight_norm old_spectral_norm",
    "pruning": "pruned",
    "quantized": "quantized_dynamic QuantizedLstm quantized_static packed_weights "
    "weight_of_another_class",
    "LoRA-like wrappers": "lora",
    "Lightning-style modules": "Lightning OwnTrain",
    "tensors and layers in lists, dicts, deques, slots, objects, closures, globals": "InContainers "
    "InANamespace WeakAndBytes Iterators ProxiesAndArrays TensorsAside Closures Partials Globals",
    "caches, counts and tables beside the model": "Caches OwnCaches CachesInDecorators CountsAside WritesAside",
    "custom __setattr__": "OwnSetattr",
    "the user's own hooks and prints": "Hooked Prints",
    "tied weights, frozen parts": "Tied part_frozen",
    "other dtypes, devices and memory formats": "on_meta bfloat16 double Complex TwoDevices channels_last",
    "custom autograd functions and custom ops": "OwnFunction OwnOp OwnOpUnknown",
    "embedding bags, experts": "Bags Routed",
    "forwards that need values": "Items ThroughNumpy Masks ReadsLengths BufferValues AsksWhetherPositionsAreInOrder "
    "ScriptedChoice",
}  # fmt: skip

FAMILIES: dict[str, str] = {
    "vision": "ViTForImageClassification ResNetForImageClassification SwinModel SegformerForSemanticSegmentation",
    "encoders": "BertForSequenceClassification DebertaV2Model XLNetModel",
    "decoders, with caches": "GPT2LMHeadModel LlamaForCausalLM BloomForCausalLM",
    "encoder and decoder": "T5ForConditionalGeneration BartForConditionalGeneration",
    "mixture of experts": "MixtralForCausalLM Qwen2MoeForCausalLM SwitchTransformersModel",
    "state space": "MambaForCausalLM Mamba2ForCausalLM RwkvForCausalLM",
    "detection": "YolosForObjectDetection DetrForObjectDetection",
    "time series": "TimeSeriesTransformerModel InformerModel AutoformerModel PatchTSTModel",
    "speech": "Wav2Vec2ForCTC WhisperForConditionalGeneration",
    "several inputs": "CLIPModel ViltModel LlavaForConditionalGeneration",
    "diffusion": "DiffusionUNet DiT",
}


def test_every_kind_has_a_model_and_every_model_a_kind() -> None:
    told = [name for names in KINDS.values() for name in names.split()]
    assert sorted(told) == sorted({case.name for case in CASES})


def test_every_family_has_an_architecture() -> None:
    known = {animal.name for animal in ZOO}
    assert {family: set(names.split()) - known for family, names in FAMILIES.items()} == {f: set() for f in FAMILIES}
    assert len(ZOO) >= 40
    assert len(CASES) >= 80
