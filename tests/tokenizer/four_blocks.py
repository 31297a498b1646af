"""The paper's plain form of the dense tokenizer: four blocks in one sequence under the cascaded mask, run twice."""

import torch
import torch.nn.functional as F

CONTENT, TOKEN, PLACEHOLDER, TASK = range(4)


def cascaded_mask(blocks: torch.Tensor) -> torch.Tensor:
    """(length, length) bool for block numbers (length,): causal inside, token->content and task->placeholder full."""
    length = len(blocks)
    causal = torch.arange(length)[:, None] >= torch.arange(length)
    query, key = blocks[:, None], blocks
    inside = (query == key) & causal
    return inside | ((query == TOKEN) & (key == CONTENT)) | ((query == TASK) & (key == PLACEHOLDER))


def loss(model, content, task, answer):
    """Summed loss and target count of one sample; ``content`` and ``answer`` are 1-D id tensors, ``task`` a number."""
    v, embed = model.settings.dense_tokens, model.backbone.embed
    blocks = torch.tensor(
        [CONTENT] * len(content) + [TOKEN] * v + [PLACEHOLDER] * v + [TASK] * len(answer)  # task token + answer but one
    )
    seen = cascaded_mask(blocks)
    mask = torch.zeros(seen.shape, dtype=model.dense_tokens.dtype)
    mask = mask.masked_fill(~seen, torch.finfo(mask.dtype).min)[None, None]
    positions = torch.arange(len(blocks))[None]

    def run(fill):
        inputs = torch.cat(
            [embed(content), model.dense_tokens, fill, model.task_tokens[task][None], embed(answer[:-1])]
        )
        out = model.base(inputs_embeds=inputs[None], attention_mask=mask, position_ids=positions, use_cache=False)
        return out.last_hidden_state[0]

    start = len(content)
    first = run(torch.zeros_like(model.dense_tokens))  # what fills the placeholder does not reach the token block
    fill = first[start : start + v]
    if model.settings.fill == "rescaled":
        fill = fill * model.gain
    second = run(fill)[start + 2 * v :]
    return F.cross_entropy(model.backbone.text_logits(second), answer, reduction="sum"), len(answer)
