"""Makes the files of this folder: numbers for a llama forward, its gradient and row selection, from another framework.

Every expected number is computed from the weights as stored (rounded to their file's type), read back from disk:
  f32  transformers' LlamaForCausalLM in float32, eager attention (for llama2c files: the code below in float32)
  f64  the forward written out below in float64; transformers cannot give this, it drops to float32 in norms, RoPE and softmax
The script stops if the two disagree, or if a llama2.c file and the same weights permuted for transformers disagree.

Needs numpy, torch, safetensors, transformers. Usage: make_golden.py [--reference DIR]
With --reference also copies losses.json and stories15m_forward.json from DIR.
"""
import argparse, json, math, os, shutil, struct
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np, safetensors, torch, transformers
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
VERSIONS = dict(numpy=np.__version__, safetensors=safetensors.__version__, torch=str(torch.__version__), transformers=transformers.__version__)
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

CHECKPOINTS = {
    "llama-gqa": dict(seed=11, dtype=torch.float32, shard="1GB", embed=0.05, config=dict(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)),
    "llama-tied": dict(seed=12, dtype=torch.bfloat16, shard="1GB", embed=0.1, config=dict(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=16,
        max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=100000.0, tie_word_embeddings=True)),
    "llama-f16-sharded": dict(seed=13, dtype=torch.float16, shard="50KB", embed=0.05, config=dict(
        vocab_size=256, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)),
}
LLAMA2C = {
    "llama2c-tiny": dict(seed=21, dim=32, hidden_dim=48, n_layers=2, n_heads=4, n_kv_heads=4, vocab_size=64, seq_len=32),
    "llama2c-gqa-untied": dict(seed=22, dim=32, hidden_dim=40, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=-64, seq_len=32),
}
LLAMA2C_THETA, LLAMA2C_EPS = 1e4, 1e-5


def dump(name, value):
    (HERE / name).write_text(json.dumps(value, separators=(",", ":")) + "\n")


def floats(x):
    """float32 as the exact value in its shortest decimal, float64 rounded to 12 decimals."""
    a = x.detach().numpy()
    if a.dtype == np.float32: return np.vectorize(lambda v: float(str(v)), otypes=[float])(a).tolist()
    return np.round(a, 12).tolist()


# ---------------------------------------------------------------- Hugging Face checkpoints

def random_weights(shapes, rng, embed):
    """Queries, keys and a separate head are larger than the rest, so that attention is far from uniform and logits spread."""
    out = {}
    for name, shape in shapes.items():
        r = torch.from_numpy(rng.standard_normal(tuple(shape)))
        if name == "model.norm.weight": out[name] = 3 + 0.3 * r
        elif "norm" in name: out[name] = 1 + 0.1 * r
        elif "embed" in name: out[name] = embed * r
        elif "q_proj" in name or "k_proj" in name: out[name] = 0.2 * r
        else: out[name] = 0.1 * r
    return out


def save_checkpoint(name, spec):
    settings = dict(spec["config"])
    config = LlamaConfig(rope_parameters=dict(rope_type="default", rope_theta=settings.pop("rope_theta")), **settings)
    model = LlamaForCausalLM(config)
    shapes = {k: v.shape for k, v in model.named_parameters()}
    model.load_state_dict(random_weights(shapes, np.random.default_rng(spec["seed"]), spec["embed"]), strict=False)
    model.tie_weights()
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(spec["dtype"]).save_pretrained(folder, max_shard_size=spec["shard"])


def stored_weights(name):
    out = {}
    for file in sorted((HERE / name).glob("*.safetensors")): out |= load_file(file)
    return {k: out[k].double() for k in sorted(out)}


def rms_norm(x, w, eps):
    return w * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def rope_half(x, theta):
    """x [T, heads, d]; element i turns with element i + d/2 by the angle t * theta^(-2i/d)."""
    d, t = x.shape[-1], torch.arange(len(x), dtype=x.dtype)
    angle = t[:, None, None] * theta ** (-torch.arange(0, d, 2, dtype=x.dtype) / d)
    a, b = x[..., :d // 2], x[..., d // 2:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def rope_interleaved(x, theta):
    """x [T, heads, d]; element 2i turns with element 2i + 1: a complex number times exp(i angle)."""
    d, t = x.shape[-1], torch.arange(len(x), dtype=torch.float64)
    angle = t[:, None, None] * theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    turn = torch.polar(torch.ones_like(angle), angle).to(torch.complex64 if x.dtype == torch.float32 else torch.complex128)
    return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], d // 2, 2).contiguous()) * turn).flatten(-2)


def attend(q, k, v):
    """q [T, H, d], k and v [T, KV, d]: query head h reads key-value head h // (H / KV); causal."""
    n, h, d = q.shape
    group, out = h // k.shape[1], []
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    for i in range(h):
        scores = (q[:, i] @ k[:, i // group].T / math.sqrt(d)).masked_fill(future, -math.inf)
        out.append(scores.softmax(-1) @ v[:, i // group])
    return torch.cat(out, -1)


def hf_forward(w, c, ids, rope=rope_half):
    """Logits [T, V] in the type of w."""
    h, kv, d, eps, theta = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"], c["rms_norm_eps"], c["rope_theta"]
    x = w["model.embed_tokens.weight"][ids]
    for i in range(c["num_hidden_layers"]):
        p = lambda s: w[f"model.layers.{i}.{s}.weight"]
        y = rms_norm(x, p("input_layernorm"), eps)
        q, k, v = ((y @ p(f"self_attn.{s}_proj").T).view(len(ids), n, d) for s, n in (("q", h), ("k", kv), ("v", kv)))
        x = x + attend(rope(q, theta), rope(k, theta), v) @ p("self_attn.o_proj").T
        y = rms_norm(x, p("post_attention_layernorm"), eps)
        x = x + (F.silu(y @ p("mlp.gate_proj").T) * (y @ p("mlp.up_proj").T)) @ p("mlp.down_proj").T
    head = w["model.embed_tokens.weight"] if c["tie_word_embeddings"] else w["lm_head.weight"]
    return rms_norm(x, w["model.norm.weight"], eps) @ head.T


def expected(ids, f32, f64):
    at = [0, len(ids) // 2, len(ids) - 1]
    assert (f32 - f64).abs().max() < 1e-4, "float32 and float64 forwards disagree"
    return dict(token_ids=ids, logit_positions=at, logits_f32=floats(f32[at]), logits_f64=floats(f64[at]),
        log_z_f32=floats(f32.double().logsumexp(-1)), log_z_f64=floats(f64.logsumexp(-1)))


def two_sequences(rng, vocab):
    a, b = rng.integers(0, vocab, 16).tolist(), rng.integers(0, vocab, 9).tolist()
    a[3] = 0          # row 0 of the embedding, whose gradient is listed, takes part
    a[9] = a[2]       # one id at two positions: its embedding row collects two gradients
    return [a, b]


def mean_cross_entropy(logits, sequences):
    """-log q(next token), summed over both sequences and divided by the number of targets."""
    parts = [F.cross_entropy(z[:-1], torch.tensor(s[1:]), reduction="sum") for z, s in zip(logits, sequences)]
    return sum(parts) / sum(len(s) - 1 for s in sequences)


def gradient(w, c, model, sequences):
    leaf = {k: v.clone().requires_grad_() for k, v in w.items()}
    loss = mean_cross_entropy([hf_forward(leaf, c, s) for s in sequences], sequences)
    loss.backward()
    model.zero_grad()
    mean_cross_entropy([model(torch.tensor([s])).logits[0] for s in sequences], sequences).backward()
    params = {}
    for name, parameter in sorted(model.named_parameters()):
        g = leaf[name].grad
        assert (g - parameter.grad).abs().max() < 1e-5 * (1 + g.abs().max()), f"gradients of {name} disagree"
        assert g.flatten()[:8].abs().min() > 0, f"the listed gradient of {name} has zeros"
        params[name] = dict(shape=list(g.shape), norm=round(g.norm().item(), 12), first8=floats(g.flatten()[:8]))
    return dict(loss=round(loss.item(), 12), targets=sum(len(s) - 1 for s in sequences), params=params)


def sensitivity(w, c, sequences, f64):
    """How far the logits move when one setting is read wrongly: a test must be stricter than this to see the mistake."""
    wrong = dict(rope_interleaved=(c, rope_interleaved), rope_theta_times_10=(c | dict(rope_theta=10 * c["rope_theta"]), rope_half),
        rms_norm_eps_times_10=(c | dict(rms_norm_eps=10 * c["rms_norm_eps"]), rope_half))
    moved = {k: max((hf_forward(w, cc, s, rope) - z).abs().max().item() for s, z in zip(sequences, f64)) for k, (cc, rope) in wrong.items()}
    assert min(moved.values()) > 1e-3, moved
    return {k: round(v, 6) for k, v in moved.items()}


def checkpoint(name, spec):
    save_checkpoint(name, spec)
    c, w = spec["config"], stored_weights(name)
    model = LlamaForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, attn_implementation="eager")
    sequences = two_sequences(np.random.default_rng(100 + spec["seed"]), c["vocab_size"])
    with torch.no_grad():
        f32 = [model(torch.tensor([s])).logits[0] for s in sequences]
        f64 = [hf_forward(w, c, s) for s in sequences]
        moved = sensitivity(w, c, sequences, f64)
    return dict(path=name, format="hf", stored_dtype=str(spec["dtype"]).removeprefix("torch."), logit_std=round(torch.cat(f64).std().item(), 4),
        max_abs_f32_minus_f64=max((a - b).abs().max().item() for a, b in zip(f32, f64)), logits_move_if=moved,
        sequences=[expected(*x) for x in zip(sequences, f32, f64)], gradient=gradient(w, c, model, sequences))


# ---------------------------------------------------------------- llama2.c, version 0

def llama2c_layout(s):
    """Tensors in file order with their shapes; matrices are row-major [out, in]."""
    dim, hid, n, vocab, d = s["dim"], s["hidden_dim"], s["n_layers"], abs(s["vocab_size"]), s["dim"] // s["n_heads"]
    kv = s["n_kv_heads"] * d
    shapes = dict(tok_emb=(vocab, dim), rms_att=(n, dim), wq=(n, dim, dim), wk=(n, kv, dim), wv=(n, kv, dim), wo=(n, dim, dim), rms_ffn=(n, dim),
        w1=(n, hid, dim), w2=(n, dim, hid), w3=(n, hid, dim), rms_final=(dim,), freq_cos=(s["seq_len"], d // 2), freq_sin=(s["seq_len"], d // 2))
    if s["vocab_size"] < 0: shapes["wcls"] = (vocab, dim)
    return shapes


def write_llama2c(path, s):
    rng, d = np.random.default_rng(s["seed"]), s["dim"] // s["n_heads"]
    scale = dict(tok_emb=0.1, wq=0.25, wk=0.25)
    angle = np.arange(s["seq_len"])[:, None] * LLAMA2C_THETA ** (-np.arange(0, d, 2) / d)
    out = struct.pack("<7i", *(s[k] for k in ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")))
    for name, shape in llama2c_layout(s).items():
        r = rng.standard_normal(shape)
        if name == "freq_cos": r = np.cos(angle)
        elif name == "freq_sin": r = np.sin(angle)
        elif name == "rms_final": r = 3 + 0.3 * r
        elif name.startswith("rms"): r = 1 + 0.1 * r
        else: r = scale.get(name, 0.15) * r
        out += r.astype("<f4").tobytes()
    path.write_bytes(out)


def read_llama2c(path):
    data = path.read_bytes()
    s = dict(zip(("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"), struct.unpack_from("<7i", data)))
    at, w = 28, {}
    for name, shape in llama2c_layout(s).items():
        count = math.prod(shape)
        w[name] = torch.from_numpy(np.frombuffer(data, "<f4", count, at).reshape(shape).copy())
        at += 4 * count
    assert at == len(data)
    return s, w


def llama2c_forward(s, w, ids):
    h, kv, d, x = s["n_heads"], s["n_kv_heads"], s["dim"] // s["n_heads"], w["tok_emb"][ids]
    for i in range(s["n_layers"]):
        y = rms_norm(x, w["rms_att"][i], LLAMA2C_EPS)
        q, k, v = ((y @ w[m][i].T).view(len(ids), n, d) for m, n in (("wq", h), ("wk", kv), ("wv", kv)))
        x = x + attend(rope_interleaved(q, LLAMA2C_THETA), rope_interleaved(k, LLAMA2C_THETA), v) @ w["wo"][i].T
        y = rms_norm(x, w["rms_ffn"][i], LLAMA2C_EPS)
        x = x + (F.silu(y @ w["w1"][i].T) * (y @ w["w3"][i].T)) @ w["w2"][i].T
    return rms_norm(x, w["rms_final"], LLAMA2C_EPS) @ w.get("wcls", w["tok_emb"]).T


def llama2c_in_transformers(s, w):
    """The same weights as a transformers model: rows of wq and wk go from pairs (2i, 2i + 1) to pairs (i, i + d/2)."""
    d = s["dim"] // s["n_heads"]
    halves = lambda m: m.view(-1, d // 2, 2, s["dim"]).transpose(1, 2).reshape(-1, s["dim"])
    model = LlamaForCausalLM(LlamaConfig(vocab_size=abs(s["vocab_size"]), hidden_size=s["dim"], intermediate_size=s["hidden_dim"], num_hidden_layers=s["n_layers"],
        num_attention_heads=s["n_heads"], num_key_value_heads=s["n_kv_heads"], max_position_embeddings=s["seq_len"], rms_norm_eps=LLAMA2C_EPS,
        rope_parameters=dict(rope_type="default", rope_theta=LLAMA2C_THETA), tie_word_embeddings=False, attn_implementation="eager"))
    state = {"model.embed_tokens.weight": w["tok_emb"], "model.norm.weight": w["rms_final"], "lm_head.weight": w.get("wcls", w["tok_emb"])}
    names = {"input_layernorm": "rms_att", "post_attention_layernorm": "rms_ffn", "self_attn.v_proj": "wv", "self_attn.o_proj": "wo",
        "mlp.gate_proj": "w1", "mlp.down_proj": "w2", "mlp.up_proj": "w3"}
    for i in range(s["n_layers"]):
        state |= {f"model.layers.{i}.{k}.weight": w[v][i] for k, v in names.items()}
        state |= {f"model.layers.{i}.self_attn.{k}_proj.weight": halves(w["w" + k][i]) for k in "qk"}
    model.load_state_dict(state)
    return model


def llama2c(name, spec):
    path = HERE / f"{name}.bin"
    write_llama2c(path, spec)
    s, w32 = read_llama2c(path)
    w64 = {k: v.double() for k, v in w32.items()}
    sequences = two_sequences(np.random.default_rng(100 + spec["seed"]), abs(s["vocab_size"]))
    other = llama2c_in_transformers(s, w32)
    with torch.no_grad():
        f32, f64 = ([llama2c_forward(s, w, ids) for ids in sequences] for w in (w32, w64))
        for ids, z in zip(sequences, f64):
            assert (other(torch.tensor([ids])).logits[0] - z).abs().max() < 1e-4, "llama2.c and transformers disagree"
    return dict(path=path.name, format="llama2c_v0", header=s, rope_theta=LLAMA2C_THETA, rms_norm_eps=LLAMA2C_EPS, logit_std=round(torch.cat(f64).std().item(), 4),
        max_abs_f32_minus_f64=max((a - b).abs().max().item() for a, b in zip(f32, f64)), sequences=[expected(*x) for x in zip(sequences, f32, f64)])


# ---------------------------------------------------------------- selection rows, losses

def by_logit(z):
    """Ids by falling logit, ties to the lower id; 0.0 and -0.0 are a tie."""
    return np.lexsort((np.arange(len(z)), -z))


def selection_logits(rng):
    """Four rows [1000] f32 with exact ties: (what is tied, logits, gold id)."""
    a, b, c, d = (rng.normal(0, 2.5, 1000).astype(np.float32) for _ in range(4))
    tied = by_logit(a)[61:67]
    a[tied] = a[tied[2]]
    yield "ranks 61 to 66 tie across the 64th place; gold is one of them, left out", a, by_logit(a)[65]
    tied = by_logit(b)[:4]
    b[tied] = b[tied[0]]
    yield "the four largest tie; gold is the third of them", b, by_logit(b)[2]
    top, rest = by_logit(c)[0], by_logit(c)[1:]
    c[top] = np.float32(np.log(0.85 / 0.15 * np.exp(c[rest].astype(np.float64)).sum()))
    p = np.exp(c.astype(np.float64))
    cross = int((np.cumsum(p[by_logit(c)]) / p.sum() < 0.95).sum())
    tied = by_logit(c)[cross - 4:cross + 5]
    c[tied] = c[by_logit(c)[cross]]
    low = by_logit(c)[500:506]
    c[low] = c[low[0]]
    yield "one id holds about 0.85; the ids where top-p 0.95 ends tie; gold is in a tie of six near rank 500", c, by_logit(c)[503]
    d = np.round(d * 4) / 4
    d -= d[by_logit(d)[63]]
    zero = np.flatnonzero(d == 0)
    d[zero[::2]], d[zero[1::2]] = -0.0, 0.0
    yield "multiples of 0.25; 0.0 and -0.0 alternate across the 64th place; gold is a -0.0", d, zero[2]


def selection_row(tie, z32, gold):
    z = z32.astype(np.float64)
    order, m = by_logit(z), z.max()
    log_z = float(np.log(np.exp(z - m).sum()) + m)
    ids, mass = order[:64], np.cumsum(np.exp(z[order] - log_z))
    assert np.abs(mass - 0.95).min() > 1e-6, "top-p ends too close to 0.95 to be the same everywhere"
    if "64th" in tie: assert z[order[63]] == z[order[64]]
    return dict(ties=tie, logits=z.tolist(), ids=ids.tolist(), log_probs=(z[ids] - log_z).tolist(), log_z=log_z, gold_id=int(gold), gold_log_prob=float(z[gold] - log_z),
        gold_rank=int((z > z[gold]).sum() + (z[:gold] == z[gold]).sum()), top_p95_cap100=int(min(100, 1 + (mass < 0.95).sum())))


def from_reference(folder):
    for name in ("losses.json", "stories15m_forward.json"):
        shutil.copyfile(folder / name, HERE / name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference", type=Path, help="folder with losses.json and stories15m_forward.json")
    reference = parser.parse_args().reference
    made = {name: checkpoint(name, spec) for name, spec in CHECKPOINTS.items()} | {name: llama2c(name, spec) for name, spec in LLAMA2C.items()}
    dump("llama_forward.json", dict(versions=VERSIONS, checkpoints=made,
        what="logits at logit_positions, log_z = log sum exp(logits) at every position; gradient: mean next-token cross entropy over both sequences, float64"))
    rows = [selection_row(*row) for row in selection_logits(np.random.default_rng(31))]
    dump("selection_rows.json", dict(versions=VERSIONS, k=64, vocab_size=1000, top_p=0.95, top_p_cap=100, rows=rows,
        what="float32 logits written exactly; the rest in float64; ties go to the lower id"))
    if reference: from_reference(reference)


if __name__ == "__main__": main()
