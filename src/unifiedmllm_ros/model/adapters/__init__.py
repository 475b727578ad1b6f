"""Other people's grounding models behind the unified representation: prompts and transcripts.

Pure text and numbers: nothing here runs a model or imports a framework.
"""
