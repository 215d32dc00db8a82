"""Renders a few conversations with every chat template in TRL's wheel, as transformers does.

Usage: render_templates.py WHEEL OUT
"""

import datetime
import json
import sys
import zipfile

from transformers.utils import chat_template_utils


class Pinned(datetime.datetime):
    """The day on which all templates are rendered."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 7, 26)


chat_template_utils.datetime = Pinned

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Says how the weather is <today> & \"tomorrow\".",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "Örtlichkeit"}, "days": {"type": "integer"}},
                "required": ["place"],
            },
        },
    }
]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Zürich", "days": 2}}}

USER = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "  It is 4.\n"}
AGAIN = [{"role": "user", "content": "And twice that? 😀"}, {"role": "assistant", "content": "8"}]
CHATS = {
    "one turn": ([USER, ANSWER], None, False),
    "prompt only": ([USER], None, True),
    "system and two turns": ([{"role": "system", "content": "Be brief."}, USER, ANSWER, *AGAIN], None, False),
    "reasoning": ([USER, {**ANSWER, "reasoning_content": "Two and two.\nFour."}, *AGAIN], None, False),
    "reasoning in the text": ([USER, {"role": "assistant", "content": "<think>\nHm.\n</think>\n\n4"}], None, False),
    "tools": (
        [
            {"role": "user", "content": "How is the weather?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "name": "weather", "content": "{\"sky\": \"blue\"}"},
            {"role": "assistant", "content": "Blue."},
        ],
        TOOLS,
        False,
    ),
    "thinking switched off": ([USER], None, True),
}


def case(template, name, messages, tools, prompts):
    variables = {"bos_token": "<bos>", "eos_token": "<eos>"}
    if name == "thinking switched off":
        variables["enable_thinking"] = False
    # As text, since the order of an object's fields counts.
    case = {"row": json.dumps({"messages": messages, "tools": tools}), "prompts": prompts, "variables": variables}
    try:
        texts, spans = chat_template_utils.render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=template,
            add_generation_prompt=prompts,
            return_assistant_tokens_mask=True,
            **variables,
        )
    except Exception as error:
        return {**case, "error": f"{type(error).__name__}: {error}"}
    in_bytes = [[len(texts[0][:at].encode()) for at in span] for span in spans[0]]
    return {**case, "text": texts[0], "spans": in_bytes}


def main():
    wheel, out = sys.argv[1:]
    templates = []
    with zipfile.ZipFile(wheel) as files:
        for path in sorted(files.namelist()):
            if not path.endswith(".jinja"):
                continue
            text = files.read(path).decode()
            cases = [{"name": name, **case(text, name, *chat)} for name, chat in CHATS.items()]
            templates.append({"name": path.split("/")[-1], "template": text, "cases": cases})
    assert templates, f"{wheel} has no templates"
    with open(out, "w") as file:
        json.dump({"wheel": wheel.split("/")[-1], "templates": templates}, file)


main()
