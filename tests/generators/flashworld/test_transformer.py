import pytest
import torch
from diffusers.models import attention_dispatch
from torch.testing import assert_close

from flashworld_core.checkpoints.assign import cast
from flashworld_core.errors import FlashWorldError
from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer


def inputs(config, *, batch=1, views=3, height=4, width=6, tokens=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, config.input_channels, views, height, width, generator=generator),
        torch.linspace(1000, 250, batch),
        torch.randn(batch, tokens, config.transformer.text_dim, generator=generator),
    )


@pytest.fixture(scope="module")
def model(small_config):
    torch.manual_seed(0)
    return FlashWorldTransformer(small_config()).eval()


@pytest.mark.parametrize("patch_size", [(1, 2, 2), (1, 1, 1)])
def test_output_channels_and_their_order(small_config, patch_size):
    config = small_config(transformer={"patch_size": patch_size})
    model = FlashWorldTransformer(config)
    width = config.output_channels
    # With the weight gone every output is its own bias: which one tells where it came from.
    with torch.no_grad():
        model.proj_out.weight.zero_()
        model.proj_out.bias.copy_(torch.arange(len(model.proj_out.bias)))
        velocity, features = model(*inputs(config))
    assert velocity.shape == (1, config.latent_channels, 3, 4, 6)
    assert features.shape == (1, config.feature_channels, 3, 4, 6)
    output = torch.cat((velocity, features), 1)
    for row in range(4):
        for column in range(6):
            block = (row % patch_size[1]) * patch_size[2] + column % patch_size[2]
            expected = (block * width + torch.arange(width)).float()
            assert_close(output[0, :, 1, row, column], expected)


def test_every_input_channel_matters(small_config, model):
    config = small_config()
    hidden, time, text = inputs(config)
    base = torch.cat(model(hidden, time, text), 1)
    for name, channels in config.input_layout.items():
        changed = hidden.clone()
        changed[:, channels] += 1
        assert (torch.cat(model(changed, time, text), 1) - base).abs().max() > 1e-3, name


def test_time_is_one_number_per_sample(small_config, model):
    hidden, time, text = inputs(small_config(), batch=2)
    together = torch.cat(model(hidden, time, text), 1)
    for i in range(2):
        alone = torch.cat(model(hidden[i : i + 1], time[i : i + 1], text[i : i + 1]), 1)
        assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)
    assert (together - torch.cat(model(hidden, time.flip(0), text), 1)).abs().max() > 1e-3


def test_padding_rows_of_the_text_are_attended_to(small_config, model):
    hidden, time, text = inputs(small_config())
    padded = torch.cat((text, torch.zeros_like(text)), 1)
    assert (model(hidden, time, padded)[0] - model(hidden, time, text)[0]).abs().max() > 1e-4


def test_built_on_meta_and_filled_is_the_same_model(small_config, model):
    config = small_config()
    with torch.device("meta"):
        empty = FlashWorldTransformer(config)
    empty.load_state_dict(model.state_dict(), assign=True)
    assert not any(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))
    for a, b in zip(model(*inputs(config)), empty(*inputs(config)), strict=True):
        assert torch.equal(a, b)


def test_gradient_checkpointing_gives_the_same_gradients(small_config):
    torch.manual_seed(1)
    model = FlashWorldTransformer(small_config()).train()
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.enable_gradient_checkpointing()
            assert model.is_gradient_checkpointing
        velocity, features = model(*inputs(small_config()))
        (velocity.square().mean() + features.square().mean()).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        assert_close(gradients[1][name], gradient)


def test_half_precision(small_config, model):
    config = small_config()
    reference = torch.cat(model(*inputs(config)), 1)
    with torch.autocast("cpu", torch.bfloat16):
        velocity, features = model(*inputs(config))
    assert velocity.dtype == torch.float32
    assert (torch.cat((velocity, features.float()), 1) - reference).std() < 0.03 * reference.std()

    half = FlashWorldTransformer(config)
    half.load_state_dict(model.state_dict())
    cast(half, torch.bfloat16)
    velocity, features = half(*inputs(config))
    assert (velocity.dtype, features.dtype) == (torch.float32, torch.bfloat16)
    assert (torch.cat((velocity, features.float()), 1) - reference).std() < 0.03 * reference.std()


def test_cast_keeps_the_sensitive_parts_in_single_precision(small_config):
    model = FlashWorldTransformer(small_config())
    cast(model, torch.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert dtypes["blocks.0.attn1.to_q.weight"] == dtypes["proj_out.weight"] == torch.bfloat16
    single = {name for name, dtype in dtypes.items() if dtype == torch.float32}
    assert single == {name for name in dtypes if any(part in name for part in ("time_embedder", "table", "norm2"))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t, c: (h[:, 1:], t, c), "hidden_states must be"),
        (lambda h, t, c: (h[..., :5], t, c), "multiples of"),
        (lambda h, t, c: (h.repeat(1, 1, 6, 1, 1), t, c), "exceed the model's 16 positions"),
        (lambda h, t, c: (h, t[:, None], c), "Expected timestep"),
        (lambda h, t, c: (h, t, c[..., 1:]), "text"),
    ],
)
def test_refuses_inputs_of_other_shapes(small_config, model, change, message):
    with pytest.raises(FlashWorldError, match=message):
        model(*change(*inputs(small_config())))


# --- the way without gradients -------------------------------------------------------------------------------


def by_diffusers(model, *given):
    """A pass as diffusers' own blocks do it: what a gradient would take."""
    model._runs_fast = lambda sample: False
    try:
        with torch.no_grad():
            return torch.cat(model(*given), 1)
    finally:
        del model._runs_fast


@pytest.mark.parametrize("changes", [{}, {"patch_size": (1, 1, 1)}, {"cross_attn_norm": False}])
def test_without_gradients_it_computes_what_diffusers_does(small_config, changes):
    torch.manual_seed(2)
    config = small_config(transformer=changes)
    model = FlashWorldTransformer(config).eval()
    for block in model.blocks:  # modulation that matters
        torch.nn.init.normal_(block.scale_shift_table)
    given = inputs(config)
    before = [tensor.clone() for tensor in given]
    expected = by_diffusers(model, *given)
    with torch.no_grad():
        out = torch.cat(model(*given), 1)
        keys = model.text_keys(given[2])
        again = torch.cat(model(*given[:2], keys), 1)
        twice = torch.cat(model(*given[:2], keys), 1)
    assert_close(out, expected, rtol=0, atol=2e-6 * float(expected.abs().max()) * 10)
    assert torch.equal(out, again) and torch.equal(out, twice)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


def test_in_half_precision_it_is_as_exact_as_diffusers(small_config):
    torch.manual_seed(2)
    config = small_config()
    model = FlashWorldTransformer(config).eval()
    exact = by_diffusers(model, *inputs(config))
    cast(model, torch.bfloat16)
    theirs = (by_diffusers(model, *inputs(config)).float() - exact).std()
    with torch.no_grad():
        ours = (torch.cat(model(*inputs(config)), 1).float() - exact).std()
    assert ours < 1.3 * theirs < 0.1 * exact.std()


def test_the_chosen_attention_reaches_every_block(small_config, model, monkeypatch):

    from flashworld_core.generators.flashworld import inference

    config = small_config()
    given, seen = inputs(config), []
    tokens = 3 * 2 * 3

    def chosen(query, key, value):
        seen.append((tuple(query.shape[:2]), key.shape[1]))
        return attention_dispatch.dispatch_attention_fn(query, key, value)

    with torch.no_grad():
        expected = torch.cat(model(*given), 1)
        monkeypatch.setattr(model, "attention", chosen)
        assert torch.equal(torch.cat(model(*given), 1), expected)
    assert seen == config.transformer.num_layers * [((1, tokens), tokens), ((1, tokens), 5)]

    # Nobody chose: diffusers' dispatcher is told what its own interface set.
    monkeypatch.setattr(model, "attention", None)
    backends = []
    original = inference.dispatch_attention_fn

    def dispatch(*tensors, backend=None):
        backends.append(backend)
        return original(*tensors, backend=backend)

    monkeypatch.setattr(inference, "dispatch_attention_fn", dispatch)
    registry = attention_dispatch._AttentionBackendRegistry
    before = registry.get_active_backend()[0]
    model.set_attention_backend("_native_math")  # which diffusers makes the process's, too
    try:
        with torch.no_grad():
            model(*given)
    finally:
        model.reset_attention_backend()
        registry.set_active_backend(before)
    assert [str(getattr(b, "value", b)) for b in backends] == 2 * config.transformer.num_layers * ["_native_math"]


def test_gradients_batches_and_autocast_take_diffusers_way(small_config, model, monkeypatch):
    config = small_config()
    monkeypatch.setattr(model, "_infer", lambda *_: pytest.fail("the way without gradients"))
    model(*inputs(config))
    with torch.no_grad():
        model(*inputs(config, batch=2))
        with torch.autocast("cpu", torch.bfloat16):
            model(*inputs(config))
    with pytest.raises(BaseException, match="without gradients"), torch.no_grad():
        model(*inputs(config))
